"""GMPQ (Wang et al. 2021, arXiv:2108.02720) and EdMIPS (Cai and Vasconcelos 2020, 2004.05795).

One network in which every searched convolution mixes quantized copies of its weight and input by
the softmax of two logit vectors is trained on a small data set. Three losses form the logits: cross
entropy, BOPs, and (GMPQ alone) how far the attribution map is from a float network's.
"""
