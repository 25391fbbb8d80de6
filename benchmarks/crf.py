"""CRF: ours against pytorch-crf

Loss with gradient, and decoding, of the same module state on the same random emissions, in one process with two
threads; half of the steps of a batch are padding at most. `ours` and `torchcrf` are medians in milliseconds, and only
their ratio means anything: absolute times are those of one noisy machine.

    python benchmarks/crf.py
"""

import torch
import torchcrf
from rows import add_row, has_row, median_ms

from spacy_ner_arch.nn.crf import LinearChainCRF

SIZES = [(32, 30, 17), (32, 120, 37), (128, 60, 73)]


def main() -> None:
    torch.set_num_threads(2)
    for size in SIZES:
        batch, steps, tags = size
        if has_row("crf", batch=batch, steps=steps, tags=tags):
            continue
        torch.manual_seed(0)
        ours, theirs = LinearChainCRF(tags, batch_first=True), torchcrf.CRF(tags, batch_first=True)
        theirs.load_state_dict(ours.state_dict())
        emissions = torch.randn(batch, steps, tags, requires_grad=True)
        gold = torch.randint(0, tags, (batch, steps))
        lengths = torch.randint(steps // 2, steps + 1, (batch,))
        lengths[0] = steps
        mask = torch.arange(steps) < lengths.unsqueeze(1)

        def loss(crf, emissions=emissions, gold=gold, mask=mask):
            emissions.grad = None
            crf.zero_grad()
            crf(emissions, gold, mask).backward()

        def decode(crf, emissions=emissions, mask=mask):
            with torch.no_grad():
                return crf.decode(emissions, mask)

        assert decode(ours) == decode(theirs)
        for what, run in [("loss and gradient", loss), ("decoding", decode)]:
            times = [median_ms(lambda run=run, crf=crf: run(crf)) for crf in (ours, theirs)]
            add_row(
                "crf",
                what=what,
                batch=batch,
                steps=steps,
                tags=tags,
                ours=round(times[0], 2),
                torchcrf=round(times[1], 2),
                ratio=round(times[1] / times[0], 1),
            )


if __name__ == "__main__":
    main()
