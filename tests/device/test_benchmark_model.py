"""What `benchmark_model` printed over the years, word for word where somebody published it."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from edgeq.device.runners.benchmark_model import Benchmark, OpTime, Program, flags, parse
from edgeq.errors import ConfigError, DeviceError

# TensorFlow 1.12, 2018: no seconds, other words in the summary, one inference is "curr" alone.
OF_2018 = """\
STARTING!
Num runs: [50]
Num threads: [1]
Graph: [mobilenet_v1_1.0_224_quant.tflite]
Loaded model mobilenet_v1_1.0_224_quant.tflite
resolved reporter
Initialized session in 4.452ms
Running benchmark for 1 iterations
count=1 curr=146161

Running benchmark for 50 iterations
count=50 first=137789 curr=137254 min=137079 max=143416 avg=137722 std=896

Average inference timings in us: Warmup: 146161, Init: 4452, no stats: 137722
"""

# TensorFlow 2.1, with a profile: a table with start times, nothing about initialization.
OF_2020 = """\
Initialized session in 38.467ms
Running benchmark for at least 1 iterations and at least 0.5 seconds but terminate if exceeding 150 seconds.
count=6 first=91810 curr=85097 min=84834 max=91810 avg=83235 std=2519

Running benchmark for at least 50 iterations and at least 1 seconds but terminate if exceeding 150 seconds.
count=50 first=79449 curr=81350 min=77385 max=88213 avg=79760.9 std=1929

============================== Run Order ==============================
\t             [node type]\t          [start]\t  [first]\t [avg ms]\t     [%]\t  [cdf%]\t  [mem KB]\t[Name]
\t                 CONV_2D\t            0.000\t    4.269\t    4.269\t  0.107%\t  0.107%\t     0.000\t[Relu6]
Number of nodes executed: 31
============================== Summary by node type ==============================
\t             [Node type]\t  [count]\t  [avg ms]\t    [avg %]\t    [cdf %]\t  [mem KB]\t[times called]
\t                 CONV_2D\t       15\t     1.406\t    89.270%\t    89.270%\t     0.000\t        0
\t       DEPTHWISE_CONV_2D\t       13\t     0.169\t    10.730%\t   100.000%\t     0.000\t        0
\t                 SOFTMAX\t        1\t     0.000\t     0.000%\t   100.000%\t     0.000\t        0

Timings (microseconds): count=50 first=79449 curr=81350 min=77385 max=88213 avg=79732 std=1929
Memory (bytes): count=0
31 nodes observed

Average inference timings in us: Warmup: 83235, Init: 38467, Inference: 79760.9
"""

# TensorFlow 2.16: a level before every line, the delegate's share, memory, two profiles.
OF_2024 = """\
INFO: STARTING!
INFO: Log parameter values verbosely: [0]
INFO: Graph: [model.tflite]
INFO: Created TensorFlow Lite XNNPACK delegate for CPU.
VERBOSE: Replacing 56 out of 58 node(s) with delegate (TfLiteXNNPackDelegate) node, yielding 3 partitions for graph.
INFO: The input model file size (MB): 4.56118
INFO: Initialized session in 32.163ms.
INFO: Running benchmark for at least 1 iterations and at least 0.5 seconds but terminate if exceeding 150 seconds.
INFO: count=32 first=19834 curr=15648 min=14936 max=21608 avg=15997.4 std=1663

INFO: Running benchmark for at least 50 iterations and at least 1 seconds but terminate if exceeding 150 seconds.
INFO: count=64 first=16067 curr=15102 min=14661 max=17579 avg=15517.6 std=551

INFO: Inference timings in us: Init: 32163, First inference: 19834, Warmup (avg): 15997.4, Inference (avg): 15517.6
INFO: Note: as the benchmark tool itself affects memory footprint, the following is only APPROXIMATE.
INFO: Memory footprint delta from the start of the tool (MB): init=22.0273 overall=34.5
INFO: Overall peak memory footprint (MB) via periodic monitoring: 93.25
INFO: Memory status at the end of exeution:
INFO: - VmRSS              : 93 MB
INFO: Profiling Info for Benchmark Initialization:
============================== Summary by node type ==============================
          [Node type]          [count]         [avg ms]          [avg %]         [cdf %]       [mem KB]  [times called]
  ModifyGraphWithDelegate            1            6.348          55.640%         55.640%       7148.000               1

Timings (microseconds): count=1 curr=11409
2 nodes observed

INFO: Operator-wise Profiling Info for Regular Benchmark Runs:
============================== Run Order ==============================
          [node type]          [first]        [avg ms]            [%]          [cdf%]          [mem KB]  [times called]
             QUANTIZE            0.199           0.203         1.328%          1.328%             0.000               1
============================== Summary by node type ==============================
          [Node type]          [count]         [avg ms]          [avg %]         [cdf %]       [mem KB]  [times called]
  Convolution (NHWC, QC8) IGEMM       2            0.407          97.640%         97.640%          0.000               2
  QUANTIZE                            1            0.203           1.328%         98.968%          0.000               1

Timings (microseconds): count=64 first=1 curr=1 min=1 max=1 avg=1 std=0
Memory (bytes): count=0
"""

# LiteRT 2: percentiles after the old numbers; six digits at most, so large ones have an exponent.
OF_2025 = """\
INFO: Explicitly applied XNNPACK delegate, and the model graph will be completely executed by the delegate.
INFO: Initialized session in 3.337ms.
INFO: count=1 curr=1234567 p5=1234567 median=1234567 p95=1234567

INFO: count=50 first=1250000 curr=1230000 min=1200000 max=1300000 avg=1.24568e+06 std=30000 p5=1210000 \
median=1240000 p95=1290000

INFO: Inference timings in us: Init: 3337, First inference: 1234567, Warmup (avg): 1.23457e+06, \
Inference (avg): 1.24568e+06
"""


def test_2018() -> None:
    assert parse(OF_2018) == Benchmark(
        50, 137.722, min_ms=137.079, max_ms=143.416, std_ms=0.896, init_ms=4.452, first_ms=None
    )


def test_2020_with_a_profile() -> None:
    found = parse(OF_2020)
    assert (found.runs, found.init_ms, found.first_ms) == (50, 38.467, 91.81)
    assert found.mean_ms == pytest.approx(79.7609)
    assert found.profile == (
        OpTime("CONV_2D", 15, 1.406),
        OpTime("DEPTHWISE_CONV_2D", 13, 0.169),
        OpTime("SOFTMAX", 1, 0.0),
    )


def test_2024_with_memory_and_delegate() -> None:
    found = parse(OF_2024.replace("\n", "\r\n"))
    assert (found.runs, found.mean_ms, found.first_ms, found.median_ms) == (64, 15.5176, 19.834, None)
    assert (found.delegated, found.nodes, found.whole) == (56, 58, False)
    assert (found.peak_bytes, found.grown_bytes) == (93.25 * 2**20, 34.5 * 2**20)
    assert found.profile == (OpTime("Convolution (NHWC, QC8) IGEMM", 2, 0.407), OpTime("QUANTIZE", 1, 0.203))


def test_2025_with_percentiles() -> None:
    found = parse(OF_2025)
    assert (found.runs, found.mean_ms, found.median_ms, found.p95_ms) == (50, 1245.68, 1240.0, 1290.0)
    assert (found.first_ms, found.whole) == (1234.567, True)


def test_all_inferences_took_the_same() -> None:
    found = parse("count=1 curr=9\n\ncount=20 curr=500(all same)\n")
    assert (found.runs, found.mean_ms, found.min_ms, found.max_ms, found.std_ms) == (20, 0.5, 0.5, 0.5, 0.0)


def test_flags_a_build_does_not_know_are_told() -> None:
    found = parse("WARN: Unconsumed cmdline flags: --use_xnnpack=true --output_filepath=/data/x y\ncount=1 curr=9\n")
    assert found.ignored == ("--use_xnnpack", "--output_filepath")
    assert parse(OF_2024).ignored == ()


def test_a_summary_alone_is_enough() -> None:
    found = parse("... tflite  : Average inference timings in us: Warmup: 91471, Init: 4108, Inference: 80660.1\n")
    assert (found.runs, found.mean_ms, found.min_ms, found.init_ms) == (1, 80.6601, None, 4.108)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "nothing at all"),
        ("INFO: STARTING!\nERROR: Failed to load model x\nINFO: bye\n", "Failed to load model x"),
        ("INFO: count=0\n", "count=0"),
        ("INFO: count=50 curr=0(all same)\n", "all same"),
        ("\xff\x00count=x avg=fast\n", "avg=fast"),
    ],
)
def test_no_time_is_an_error_with_its_last_words(text: str, why: str) -> None:
    with pytest.raises(DeviceError, match="printed no time") as caught:
        parse(text)
    assert why in str(caught.value)


def test_a_table_cut_short_keeps_its_whole_rows() -> None:
    cut = OF_2024[: OF_2024.rindex("QUANTIZE ") + 60]
    assert [row.op for row in parse(cut).profile] == ["Convolution (NHWC, QC8) IGEMM"]


def test_latency_runs_neither_watch_memory_nor_ops() -> None:
    words = flags("/m.tflite", threads=2, xnnpack=True, runs=4, seconds=0.4, warmup=0.2)
    assert {"--report_peak_memory_footprint=false", "--enable_op_profiling=false", "--use_xnnpack=true"} <= set(words)
    once = flags("/m.tflite", threads=1, xnnpack=False, runs=1, seconds=0, warmup=0)
    assert {"--num_runs=1", "--min_secs=0", "--warmup_runs=0", "--warmup_min_secs=0", "--use_xnnpack=false"} <= set(
        once
    )


def _elf(path: Path, machine: int, rest: bytes = b"") -> Path:
    path.write_bytes(b"\x7fELF\x02\x01\x01" + bytes(9) + struct.pack("<HH", 3, machine) + bytes(44) + rest)
    return path


def test_a_build_for_another_processor_is_refused(tmp_path: Path) -> None:
    program = Program.read(_elf(tmp_path / "benchmark_model", 62))
    program.fits(["x86_64"], "adb:1")
    program.fits([], "adb:1")  # a device that does not say may try
    with pytest.raises(DeviceError, match=r"it is x86_64, the device runs arm64-v8a, armeabi-v7a.*build for arm64-v8a"):
        program.fits(["arm64-v8a", "armeabi-v7a"], "adb:1")


def test_a_build_for_linux_is_refused(tmp_path: Path) -> None:
    linux = _elf(tmp_path / "linux", 183, b"\0/lib/ld-linux-aarch64.so.1\0")
    with pytest.raises(ConfigError, match="built for Linux, not for Android"):
        Program.read(linux)
    android = Program.read(_elf(tmp_path / "android", 183, b"\0/system/bin/linker64\0"))
    assert android.abi == "arm64-v8a"
    with pytest.raises(ConfigError, match="no benchmark_model at"):
        Program.read(tmp_path / "nothing")
