"""Recorded output of the benchmark binary, from public sources that are named beside it."""

import random

import pytest

from keras_kd.errors import ConfigurationError
from keras_kd.evaluation import parse_android_log

# github.com/tensorflow/tensorflow/issues/43541: android_arm_benchmark_model with --use_gpu=true, shortened.
GPU = """STARTING!
Log parameter values verbosely: [0]
Min num runs: [50]
Num threads: [4]
Min warmup runs: [1]
Graph: [/data/local/tmp/tflite/denoising_32bit.tflite]
Enable op profiling: [1]
#threads used for CPU inference: [4]
Use gpu: [1]
Loaded model /data/local/tmp/tflite/denoising_32bit.tflite
INFO: Initialized TensorFlow Lite runtime.
INFO: Created 1 GPU delegate kernels.
Explicitly applied GPU delegate, and the model graph will be completely executed by the delegate.
The input model file size (MB): 7.07479
Initialized session in 870.557ms.
Running benchmark for at least 1 iterations and at least 0.5 seconds but terminate if exceeding 150 seconds.
count=4 first=130565 curr=120829 min=117370 max=130565 avg=122373 std=4930

Running benchmark for at least 50 iterations and at least 1 seconds but terminate if exceeding 150 seconds.
count=50 first=119212 curr=118055 min=113737 max=124776 avg=119375 std=1948

Inference timings in us: Init: 870557, First inference: 130565, Warmup (avg): 122373, Inference (avg): 119375
"""
# github.com/tensorflow/tensorflow/issues/42507: with the line about memory, and the head of a profile.
CPU = """STARTING!
Num threads: [4]
Graph: [/data/local/tmp/espcn_harmonic_2x_slim_w_cl.tflite]
Initialized session in 0.855ms.
count=15 first=49060 curr=33682 min=32825 max=49060 avg=34825.1 std=3930

count=50 first=32891 curr=33978 min=32641 max=34005 avg=33209.4 std=450

Inference timings in us: Init: 855, First inference: 49060, Warmup (avg): 34825.1, Inference (avg): 33209.4
Note: as the benchmark tool itself affects memory footprint, the following is only APPROXIMATE to the actual memory \
footprint of the model at runtime. Take the information at your discretion.
Peak memory footprint (MB): init=0 overall=12.8672
Profiling Info for Benchmark Initialization:
============================== Run Order ==============================
\t             [node type]\t          [start]\t  [first]\t [avg ms]\t     [%]\t  [cdf%]\t  [mem KB]\t[times called]\t[Name]
"""  # noqa: E501
# github.com/tensorflow/tensorflow/issues/56301: through logcat.
LOGCAT = """\
05-30 15:16:44.857  3380  3380 I tflite  : Explicitly applied NNAPI delegate, and the model graph will be partially \
executed by the delegate w/ 44 delegate kernels.
05-30 15:16:44.858  3380  3380 I tflite  : Initialized session in 126.059ms.
05-30 15:16:45.362  3380  3380 I tflite  : count=40 first=32942 curr=12594 min=11340 max=32942 avg=12581.9 std=3331
05-30 15:16:46.365  3380  3380 I tflite  : count=75 first=12840 curr=11853 min=11787 max=13649 avg=12167.6 std=325
05-30 15:16:46.366  3380  3380 I tflite  : Inference timings in us: Init: 126059, First inference: 32942, \
Warmup (avg): 12581.9, Inference (avg): 12167.6
"""
# README.md of tflite/tools/benchmark in github.com/google-ai-edge/LiteRT, f6745779, shortened.
README = """
============================== Run Order ==============================
\t             [node type]\t  [start]\t  [first]\t [avg ms]\t     [%]\t  [cdf%]\t  [mem KB]\t[times called]\t[Name]
\t                 CONV_2D\t    0.000\t    4.269\t    4.269\t  0.107%\t  0.107%\t     0.000\t        0\t[MobilenetV1/MobilenetV1/Conv2d_0/Relu6]
\t       DEPTHWISE_CONV_2D\t    4.270\t    2.150\t    2.150\t  0.054%\t  0.161%\t     0.000\t        0\t[MobilenetV1/MobilenetV1/Conv2d_1_depthwise/Relu6]
\t                 SOFTMAX\t   79.443\t    0.029\t    0.029\t  0.001%\t  1.993%\t     0.000\t        0\t[MobilenetV1/Predictions/Softmax]

============================== Top by Computation Time ==============================
\t             [node type]\t  [start]\t  [first]\t [avg ms]\t     [%]\t  [cdf%]\t  [mem KB]\t[times called]\t[Name]
\t                 CONV_2D\t   19.352\t    6.652\t    6.652\t  0.167%\t  0.167%\t     0.000\t        0\t[MobilenetV1/MobilenetV1/Conv2d_3_pointwise/Relu6]

Timings (microseconds): count=50 first=79449 curr=81350 min=77385 max=88213 avg=79732 std=1929
Memory (bytes): count=0
31 nodes observed


Average inference timings in us: Warmup: 83235, Init: 38467, Inference: 79760.9
"""  # noqa: E501
# Written from benchmark_model.cc and profile_summary_formatter.cc at the same commit; not recorded.
CURRENT = """\
INFO: STARTING!
INFO: Num threads: [2]
INFO: Graph: [/data/local/tmp/net.tflite]
INFO: Though GPU delegate is explicitly applied, the model graph will not be executed by the delegate.
INFO: count=30 first=900 curr=300 min=290 max=900 avg=320.5 std=12 p5=291 median=301 p95=410
INFO: count=3000 first=310 curr=300 min=290 max=900 avg=1.25e+03 std=12 p5=291 median=300 p95=410
INFO: Inference timings in us: Init: 2100, First inference: 900, Warmup (avg): 320.5, Inference (avg): 1.25e+03
INFO: Memory footprint delta from the start of the tool (MB): init=2.5 overall=6.75
INFO: Overall peak memory footprint (MB) via periodic monitoring: 9.5
INFO: Profiling Info for Benchmark Initialization:
\t[node type]\t[first]\t[avg ms]\t[%]\t[cdf%]\t[mem KB]\t[times called]\t[Name]
\tAllocateTensors\t0.5\t0.5\t100%\t100%\t0\t1\tAllocateTensors/0
INFO: Operator-wise Profiling Info for Regular Benchmark Runs:
\t[node type]\t[first]\t[avg ms]\t[%]\t[cdf%]\t[mem KB]\t[times called]\t[Name]
\tDelegate/Convolution (NHWC, F32) IGEMM\t0.2\t0.25\t100%\t100%\t0\t1\tDelegate/Convolution (NHWC, F32) IGEMM:0
"""


def test_a_run_on_the_gpu():
    (run,) = parse_android_log(GPU)
    assert (run.graph, run.num_threads) == ("/data/local/tmp/tflite/denoising_32bit.tflite", 4)
    assert run.delegates == (
        "Explicitly applied GPU delegate, and the model graph will be completely executed by the delegate.",
    )
    assert (run.load_ms, run.first_run_ms, run.mean_ms) == pytest.approx((870.557, 130.565, 119.375))
    assert (run.num_runs, run.min_ms, run.max_ms, run.std_ms) == (50, 113.737, 124.776, 1.948)
    assert (run.p50_ms, run.p95_ms, run.memory_mb, run.peak_mb, run.operators) == (None, None, None, None, ())
    assert str(run).splitlines()[0] == (
        "/data/local/tmp/tflite/denoising_32bit.tflite: mean 119 ms of 50 runs, load 871 ms, first run 131 ms"
    )


def test_a_run_on_the_cpu_with_memory():
    """The only profile is that of the initialization, which is not that of the runs."""
    (run,) = parse_android_log(CPU)
    assert (run.mean_ms, run.num_runs, run.memory_mb, run.operators) == (33.2094, 50, 12.8672, ())


def test_logcat():
    (run,) = parse_android_log(LOGCAT)
    assert (run.mean_ms, run.num_runs, run.max_ms, run.load_ms) == (12.1676, 75, 13.649, 126.059)
    assert run.delegates[0].endswith("partially executed by the delegate w/ 44 delegate kernels.")


def test_the_profile_of_the_documentation():
    (run,) = parse_android_log(README)
    assert (run.mean_ms, run.load_ms, run.first_run_ms) == pytest.approx((79.7609, 38.467, None))
    assert [(one.kind, one.mean_ms) for one in run.operators] == [
        ("CONV_2D", 4.269),
        ("DEPTHWISE_CONV_2D", 2.15),
        ("SOFTMAX", 0.029),
    ]
    assert run.operators[2].name == "MobilenetV1/Predictions/Softmax"


def test_the_current_format():
    (run,) = parse_android_log(CURRENT)
    assert (run.p50_ms, run.p95_ms, run.num_runs, run.mean_ms) == (0.3, 0.41, 3000, 1.25)
    assert (run.memory_mb, run.peak_mb, run.num_threads) == (6.75, 9.5, 2)
    assert run.delegates[0].startswith("Though GPU delegate is explicitly applied")
    assert [(one.kind, one.mean_ms) for one in run.operators] == [("Delegate/Convolution (NHWC, F32) IGEMM", 0.25)]


def test_spaces_in_place_of_tabs():
    """As a terminal copies them."""
    assert [one.kind for one in parse_android_log(README.replace("\t", "    "))[0].operators] == [
        "CONV_2D",
        "DEPTHWISE_CONV_2D",
        "SOFTMAX",
    ]


def test_several_runs_in_one_log():
    assert [run.mean_ms for run in parse_android_log(GPU + CPU + CURRENT)] == [119.375, 33.2094, 1.25]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not the output of a finished benchmark. Received: 0 lines without times"),
        ("adb: no devices/emulators found", "1 lines without times"),
        ("STARTING!\nGraph: [a.tflite]\nERROR: Failed to load model a.tflite\nBenchmarking failed.", "Failed to load"),
        ("Inference timings in us: Init: , Inference (avg): many", "not the output"),
    ],
)
def test_what_is_not_a_finished_run(text, message):
    with pytest.raises(ConfigurationError) as error:
        parse_android_log(text)
    assert message in str(error.value)


def test_a_failed_run_among_others_is_not_lost():
    with pytest.raises(ConfigurationError, match="no memory"):
        parse_android_log(GPU + "STARTING!\nERROR: no memory\n" + CPU)


def test_damaged_logs_are_read_or_refused():
    rng = random.Random(0)
    whole = GPU + CPU + CURRENT + README
    for _ in range(300):
        text = list(whole)
        for _ in range(rng.choice([1, 5, 50])):
            place = rng.randrange(len(text))
            text[place : place + rng.randrange(9)] = rng.choice(["", "\n", "\t", "9e9", "..", "[", ":", "=", "\0"])
        try:
            parse_android_log("".join(text))
        except ConfigurationError as error:
            assert "benchmark" in str(error)
