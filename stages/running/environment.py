"""What libraries read when they are imported: the number of threads, and how much they print."""

from __future__ import annotations

import os
import warnings

from stages.core.params import ComputeParams


def threads_of(compute: ComputeParams, processes: int = 1) -> int:
    """Return how many processor threads the params mean for one process on this machine.

    `auto` is the cores that this process may use: its affinity and a container's quota count.

    Args:
        compute: the params.
        processes: how many on this machine share the threads.
    """
    threads = compute.threads
    if threads == "auto":
        from joblib import cpu_count

        threads = int(cpu_count())
    return max(1, threads // processes)


def set_environment(compute: ComputeParams, processes: int = 1) -> None:
    """Set threads and verbosity for the libraries that are imported afterwards.

    The thread count is set whatever the shell says, since it changes the last bits of sums.

    Args:
        compute: the params.
        processes: how many on this machine share the threads.
    """
    threads = str(threads_of(compute, processes))
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[name] = threads
    os.environ["TOKENIZERS_PARALLELISM"] = "true"
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    os.environ["TRANSFORMERS_VERBOSITY"] = "error"
    os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"
    # An operator that Apple's GPU lacks is computed by the processor.
    os.environ["PYTORCH_ENABLE_MPS_FALLBACK"] = "1"
    # Warnings about the next releases of libraries do not concern a user.
    warnings.filterwarnings(
        "ignore", category=FutureWarning, module="(transformers|peft|accelerate)"
    )
