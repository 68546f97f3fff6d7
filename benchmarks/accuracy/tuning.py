"""The second half: a policy is finetuned on a data set, and its integer graph is tested."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Mapping

from accuracy.policies import Work
from gmpq.inputs.compile_inputs import Sources
from gmpq.inputs.images import Preprocessing, find_images
from gmpq.policy import LayerBits, Policy
from gmpq.policy import file as policy_file
from gmpq.qat.finetune import finetune, integer_accuracy
from gmpq.qat.options import FinetuneOptions, TrainOptions

WARMUP = 0.25  # epochs


def key(bits: Mapping[str, LayerBits]) -> str:
    """Return a short name for a policy: equal bits have equal names."""
    text = " ".join(f"{name}:{each.w}/{each.a}" for name, each in bits.items())
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def tune(work: Work, bits: Mapping[str, LayerBits]) -> float:
    """Return the accuracy of the finetuned integer graph on the test images."""
    study = work.study
    policy = work.folder / f"{work.cell.name}-{key(bits)}.json"
    policy_file.write(Policy(bits, model=work.model), policy)
    training = TrainOptions(
        epochs=study.tune_epochs,
        batch=study.batch,
        lr=study.tune_lr,
        warmup=WARMUP,
        reestimate=study.reestimate,
        seed=work.cell.seed,
    )
    out = policy.with_suffix("")
    shutil.rmtree(out.with_name(f"{out.name}.training"), ignore_errors=True)  # of a stopped study
    ((train,), (val,)) = (work.part(name) for name in ("train", "val"))
    options = FinetuneOptions(training, threads=1)
    found = finetune(Sources(policy), (train, val), options, out)
    how = Preprocessing.of(work.shape, work.cell.dataset.input)
    return integer_accuracy(found.graph, find_images(work.part("test"), how))
