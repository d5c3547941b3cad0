"""report.json: every key, its type and meaning, once. Building, checking and the documentation all read this table."""

from __future__ import annotations

from collections.abc import Mapping

from edgeq.report.devicefields import ACTIVITY, DEVICE, TIMES
from edgeq.report.entries import SHORTEST, Entry, Field, Rows, Section

__all__ = ["FIELDS", "SCHEMA"]

SCHEMA = 1
"""Grows when a key changes its meaning or goes away; new optional keys leave it as it is."""


def _moment(when: str) -> Section:
    return Section(
        f"the machine right {when} the timed part",
        {
            "load": Field("number", "load average of the last minute", nullable=True, low=0),
            "frequency_mhz": Field("number", "mean clock of all cores", nullable=True, low=0),
            "temperature_c": Field("number", "warmest thermal zone, degrees Celsius", nullable=True, low=-300),
        },
    )


MACHINE: Mapping[str, Entry] = {
    "machine": Field("text", "the machine in one line"),
    "cpu": Field("text", "processor, or board and processor"),
    "architecture": Field("text", "such as x86_64 or aarch64"),
    "cores": Field("integer", "cores this process may use", low=1),
    "flags": Field("list of texts", "instruction sets that kernels choose between, those of them present"),
    "vnni": Field("yes/no", "whether x86 sums 8-bit products without saturating on the way"),
    "governor": Field("text", "clock governor; null where not readable", nullable=True),
    "platform": Field("text", "operating system and version"),
    "python": Field("text", "version of Python"),
    "virtual": Field("yes/no", "whether this is a virtual machine"),
    "container": Field("text", "kind of container, null for none seen", nullable=True),
    "emulated": Field("yes/no", "another kind of processor pretended to be this one: its times mean nothing"),
}

ANSWERS: Mapping[str, Entry] = {
    "score": Field("number", "the task's figure in percent, `metric` says which", low=0, high=100),
    "top1": Field(
        "number", "percent of images whose class was the first answer; classification", optional=True, low=0, high=100
    ),
    "top5": Field(
        "number",
        "percent among the first five; null with fewer than 6 classes; classification",
        nullable=True,
        optional=True,
        low=0,
        high=100,
    ),
    "per_class": Field(
        "table of numbers", "the same figure of each class; dense tasks", optional=True, low=0, high=100
    ),
    "top1_interval": Field(
        "list of numbers", "95 % interval of top1 (Wilson), low and high", optional=True, low=0, high=100
    ),
}

ACCURACY: Mapping[str, Entry] = {
    "metric": Field("text", "what `score` is: top-1, mIoU or mAP@0.5", optional=True),
    "n": Field("integer", "images, the same for both", low=1),
    "chance": Field(
        "number",
        "percent that the float network would score if its answers were dealt to the images at random",
        optional=True,
        low=0,
        high=100,
    ),
    "float": Section("the network as it came, in torch", ANSWERS),
    "integer": Section("the exported file, run by its real runtime", ANSWERS),
    "agreement": Field(
        "number",
        "share, 0 to 1, answered alike by both, right or wrong: images (first answer), pixels, or boxes of the float "
        "network with a partner of the same class at IoU 0.5",
        low=0,
        high=1,
    ),
    "difference": Section(
        "integer minus float; for classification judged on the images whose answer became right or wrong",
        {
            "points": Field(
                "number", "difference of the score in percentage points; negative is a loss", low=-100, high=100
            ),
            "low": Field("number", "lower end of the interval of `points`", optional=True, low=-100, high=100),
            "high": Field("number", "upper end", optional=True, low=-100, high=100),
            "level": Field("number", "confidence level of the interval, 0.95", optional=True, low=0, high=1),
            "gained": Field("integer", "images wrong in float and right in integers", optional=True, low=0),
            "lost": Field("integer", "images right in float and wrong in integers", optional=True, low=0),
            "p_value": Field(
                "number",
                "chance of so uneven a split of gained and lost if neither were better",
                optional=True,
                low=0,
                high=1,
            ),
            "method": Field("text", "how interval and p_value were computed", optional=True),
        },
        optional=True,
    ),
    "images": Field("text", "where the images came from, without folders", optional=True),
    "sha256": Field("text", "of pixels and labels", optional=True),
}

LATENCY: Mapping[str, Entry] = {
    **TIMES,
    "p90_ms": Field("number", "integer file, 90th percentile", low=SHORTEST),
    "threads": Field("integer", "threads of the runtime", low=1),
    "valid": Field("yes/no", "whether these timings may be believed"),
    "conditions": Section(
        "what the timings depend on",
        {
            **MACHINE,
            "runtime": Field("text", "package and version of the runtime"),
            "kernels": Field("text", "kernels asked for, such as xnnpack or mlas"),
            "before": _moment("before"),
            "after": _moment("after"),
            **ACTIVITY,
        },
    ),
    "samples": Section(
        "every timing, milliseconds per inference; the two lists are pairs",
        {
            "float_ms": Field("list of numbers", "float file", low=0),
            "integer_ms": Field("list of numbers", "integer file", low=0),
        },
        optional=True,
    ),
}

FLOAT32 = 3.5e38
"""Beyond every finite float32: the values of a network may be anything below."""

FIELDS: Mapping[str, Entry] = {
    "schema": Field("integer", f"version of this table, {SCHEMA}"),
    "edgeq": Field("text", "version of edgeq", optional=True),
    "model": Field("text", "the network's name"),
    "network": Section(
        "the network in numbers",
        {
            "input": Field("list of numbers", "shape of one input: channels, height, width", low=1),
            "parameters": Field("integer", "weights and biases, batch norm folded", low=0),
            "macs": Field("integer", "multiply-accumulates of one inference", low=0),
            "nodes": Field("integer", "ops after folding and fusing", low=0),
        },
        optional=True,
    ),
    "target": Field("text", "name of the target"),
    "method": Field("text", "where calibration images came from"),
    "method_reason": Field("text", "why that method", optional=True),
    "bits": Field("text", "weights first: w8a8"),
    "seed": Field("integer", "seed of everything random", low=0),
    "artifact": Section(
        "the integer file",
        {
            "path": Field("text", "file name, in the folder of this report"),
            "bytes": Field("integer", "size", low=1),
            "sha256": Field("text", "of the file"),
        },
    ),
    "float": Section("the same network, float, written by the same writer", {"bytes": Field("integer", "size", low=1)}),
    "accuracy": Section("on labelled images; null when there were none", ACCURACY, nullable=True),
    "exactness": Section(
        "integers of the runtime against a reference, over calibration images, every op's output",
        {
            "reference": Field("text", "what the integers were compared with"),
            "values": Field("integer", "values compared", low=0),
            "equal": Field("integer", "of them equal", low=0),
            "max_step": Field("integer", "largest difference, in integer steps", low=0),
            "images": Field("integer", "inputs the values come from", optional=True, low=1),
            "first_difference": Field("text", "the earliest op that differs, and where", nullable=True, optional=True),
        },
        nullable=True,
    ),
    "census": Section(
        "what the runtime made of the file",
        {
            "ops": Field("integer", "ops in all", low=0),
            "kinds": Field(
                "table of integers", "how many of each kind, by the runtime's own names", optional=True, low=0
            ),
            "float_ops": Field("integer", "ops that compute in float", low=0),
            "transposes": Field("integer", "ops that only change the layout", low=0),
            "quantize": Field("integer", "float to integer inside the network", low=0),
            "dequantize": Field("integer", "integer to float inside the network", low=0),
            "requantize": Field("integer", "integers of 8 bits to 16 bits or back", optional=True, low=0),
            "spatial_pads": Field("integer", "pads that a convolution or pooling could carry", optional=True, low=0),
            "float_convolutions": Field("integer", "convolutions in float", optional=True, low=0),
            "float_matmuls": Field("integer", "matrix products in float", optional=True, low=0),
        },
        nullable=True,
    ),
    "latency": Section("float and integer file, timed in turns; null when not measured", LATENCY, nullable=True),
    "devices": Rows(
        "the same files on other machines, one row for each `--device`; everything they said is in `device.json`",
        DEVICE,
        optional=True,
    ),
    "synthesis": Section(
        "calibration images",
        {
            "method": Field("text", "what made them"),
            "images": Field("integer", "how many", low=1),
            "seconds": Field("number", "how long it took when it was really done", low=0),
            "sha256": Field("text", "of pixels and labels", optional=True),
            "notes": Field("table of numbers", "what the method tells about its images, by name", optional=True),
            "device": Field("text", "cpu or cuda: where methods that optimise computed", optional=True),
        },
    ),
    "raw_pixels": Section(
        "present where the file takes pixels and no normalisation is left to the app",
        {
            "form": Field("text", "grid, weights or op: where mean and std went"),
            "normalisation": Field("text", "the same in words"),
            "why": Field("text", "why there"),
            "type": Field("text", "of the input: uint8, int8 or float32"),
            "input": Field("text", "what an app puts there"),
            "mean": Field(
                "list of numbers",
                "per channel on the 0..1 scale: with `std`, what the input's scale and zero point make of a pixel",
            ),
            "std": Field("list of numbers", "per channel on the 0..1 scale"),
            "border": Field(
                "number", "how far the border of padding layers is from the mean, in pixels, at most a half", low=0
            ),
            "macs": Field("integer", "multiply-accumulates it costs", low=0),
        },
        optional=True,
    ),
    "simulated": Section(
        "present where activations have fewer than 8 bits, which no runtime executes: `accuracy.integer` is then the "
        "exact reference's, and the file stores the same integers without that confinement",
        {
            "values": Field("integer", "values confined to fewer bits than they are stored in", low=0),
            "images": Field("integer", "evaluation images answered, evenly spaced", optional=True, low=1),
            "file_score": Field("number", "the file's own score on them, in percent", optional=True, low=0, high=100),
        },
        optional=True,
    ),
    "finetune": Section(
        "how the quantized network was trained, where it was",
        {
            "method": Field("text", "what trained it"),
            "images": Field("text", "what made the images it was trained on, beside a generator it plays against"),
            "processes": Field("integer", "that trained it, each on its share of every batch", optional=True, low=1),
            "device": Field("text", "what they trained on: cpu or cuda", optional=True),
            "precision": Field(
                "text", "float32, or mixed: the float network and the generator in bfloat16", optional=True
            ),
            "steps": Field("number", "of the optimiser", low=0),
            "seconds": Field("number", "how long training took, since it was last resumed", low=0),
            "resumed_at": Field("number", "the step it was resumed at; 0 for never", low=0),
            "gap_before": Field(
                "number", "mean absolute difference to the float outputs on held-out synthetic images", low=0
            ),
            "gap_after": Field("number", "the same after the last step", low=0),
            "peak_mib": Field("number", "peak memory of the first process", low=0),
            "agreement": Section(
                "the trained student against the exact reference of the integers it was frozen to",
                {
                    "images": Field("integer", "compared", low=1),
                    "equal_argmax": Field("number", "share of images given the same answer", low=0, high=1),
                    "equal": Field("number", "share of equal output values", low=0, high=1),
                    "largest_step": Field("integer", "largest difference, in integer steps", low=0),
                },
            ),
            "curves": Section(
                "losses over time, thinned",
                {
                    "student": Field("list of numbers", "what the student lowers"),
                    "generator": Field("list of numbers", "what the generator lowers; empty without one"),
                    "held_out": Field("list of numbers", "gap to the float outputs on held-out synthetic images"),
                },
            ),
        },
        optional=True,
    ),
    "seconds": Section(
        "of each stage when it was really done, even where this build found it cached; null when skipped",
        {
            name: Field("number", text, nullable=True, optional=name == "finetune", low=0)
            for name, text in {
                "capture": "module to graph, folded and fused",
                "synthesize": "images made",
                "calibrate": "ranges found, integers frozen",
                "finetune": "the quantized network trained",
                "write": "files written",
                "verify": "exactness and census",
                "measure": "accuracy and latency",
            }.items()
        },
    ),
    "dead_channels": Field("integer", "output channels whose weights cannot move the output by half a step", low=0),
    "equalized": Field(
        "integer",
        "layers whose weights in the file are the checkpoint's times scales of channels",
        optional=True,
        low=0,
    ),
    "layers": Rows(
        "float graph against integer reference, one row per op in order, errors of earlier layers included",
        {
            "name": Field("text", "module path"),
            "op": Field("text", "kind of op"),
            "sqnr_db": Field("number", "signal to quantization-noise ratio in decibels; 120 for no error", high=120),
            "saturated": Field(
                "number", "share of values at the ends of the integer range", optional=True, low=0, high=1
            ),
            "reads": Field("list of texts", "ops it reads, by `name`; not the network's inputs", optional=True),
            "low": Field(
                "number", "smallest value of its output in the float network", optional=True, low=-FLOAT32, high=FLOAT32
            ),
            "high": Field("number", "largest", optional=True, low=-FLOAT32, high=FLOAT32),
            "weight_bits": Field("integer", "of the layer's weights", optional=True, low=1),
            "weight_storage": Field("text", "the type they have in the file", optional=True),
            "activation_bits": Field("integer", "of the op's output", optional=True, low=1),
            "dead_channels": Field("integer", "of this op", optional=True, low=0),
            "equal": Field("number", "share of values equal to the exactness reference", optional=True, low=0, high=1),
            "max_step": Field("integer", "largest difference to it, in integer steps", optional=True, low=0),
        },
    ),
    "baselines": Rows(
        "the same network calibrated otherwise, for comparison",
        {
            "method": Field("text", "where its calibration images came from"),
            "images": Field("integer", "how many", low=1),
            "top1": Field("number", "percent, on the same images as `accuracy`", low=0, high=100),
            "top5": Field("number", "percent", nullable=True, optional=True, low=0, high=100),
            "agreement": Field(
                "number", "share of images given the float network's answer", optional=True, low=0, high=1
            ),
        },
    ),
    "warnings": Field("list of texts", "what a person should know before believing or shipping this"),
    "conditions": Section(
        "the machine and packages everything above was made and measured with",
        {
            **MACHINE,
            "runtime": Field("text", "package and version that ran the file", optional=True),
            "kernels": Field("text", "kernels asked for", optional=True),
            "packages": Field("table of texts", "versions of the packages that matter", optional=True),
        },
    ),
}
