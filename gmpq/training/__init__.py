"""What trains networks, in searches and in finetuning: labelled images, batches, processes."""
