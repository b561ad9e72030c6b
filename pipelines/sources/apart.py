"""Reading files in a process of their own, so that a crafted or damaged file can end no run.

Belongs here: the process, its limits, what is said when it dies. Does not belong here: the formats (`readers.py`). Parquet and XLSX
are decoded by native code from lengths and offsets that the file itself states; what goes wrong there is a crash or an allocation
without measure, not an exception. The parsers of CSV and JSON are native too. Two million lines take as long here as in the process that
asks, which stays a tenth as large. The two sides exchange one line of JSON a file; the process serves every file of its parent and
ends with it.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import resource
import signal
import subprocess
import sys
import threading
from dataclasses import asdict
from pathlib import Path
from typing import Any

from data_contracts.environment import child_environment
from data_contracts.errors import SourceError
from models.warehouse import scratch
from pipelines.sources import readers
from pipelines.sources.files import SourceFile
from pipelines.sources.readers import Job, Reading

CPU_SECONDS = 3600       # for one file: 100 million rows of Parquet take about 300
_PROGRAM = Path(__file__).resolve().parents[2]
_guard = threading.Lock()
_child: subprocess.Popen[str] | None = None


def read(job: Job) -> Reading:
    """`readers.read` in the other process. Raises SourceError, also when that process dies of the file."""
    with _guard:
        answer = _ask(_running(), json.dumps(_request(job)))
    if "error" in answer:
        raise SourceError(**answer["error"])
    return Reading(**answer["reading"] | {"rejects": [tuple(reject) for reject in answer["reading"]["rejects"]]})


def _request(job: Job) -> dict[str, Any]:
    return {"file": asdict(job.file) | {"path": str(job.file.path)}, "target": str(job.target), "work": str(job.work), "source": job.source, "known": sorted(job.known), "options": job.options}


def _running() -> subprocess.Popen[str]:
    global _child
    if _child is None or _child.poll() is not None:
        path = os.pathsep.join([str(_PROGRAM), *(p for p in sys.path if p)])
        _child = subprocess.Popen([sys.executable, "-m", "pipelines.sources.apart"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                                  text=True, encoding="utf-8", env=child_environment(PYTHONPATH=path))
        atexit.register(_end, _child)
    return _child


def _end(child: subprocess.Popen[str]) -> None:
    with contextlib.suppress(OSError):
        child.stdin.close()      # type: ignore[union-attr]  # it was opened with a pipe
    child.kill()
    child.wait()


def _ask(child: subprocess.Popen[str], request: str) -> dict[str, Any]:
    line = ""
    try:
        with contextlib.suppress(BrokenPipeError):
            print(request, file=child.stdin, flush=True)
            line = child.stdout.readline()      # type: ignore[union-attr]
    finally:
        if not line:                            # it died, or this process was interrupted while waiting: the next file gets a new one
            _end(child)
    if line:
        return json.loads(line)
    asked = json.loads(request)
    with contextlib.suppress(FileNotFoundError):
        Path(asked["target"]).unlink()
    how = signal.Signals(-child.returncode).name if child.returncode < 0 else f"exit code {child.returncode}"
    return {"error": {"message": f"the file ended the process that read it ({how})", "source": asked["source"], "file": asked["file"]["name"],
                      "remedy": "It is damaged, or was made to do harm. Export it again, or in another format."}}


def _answer(line: str) -> dict[str, Any]:
    asked = json.loads(line)
    file = SourceFile(**asked["file"] | {"path": Path(asked["file"]["path"])})
    used = resource.getrusage(resource.RUSAGE_SELF)
    resource.setrlimit(resource.RLIMIT_CPU, (int(used.ru_utime + used.ru_stime) + CPU_SECONDS, resource.getrlimit(resource.RLIMIT_CPU)[1]))
    try:
        with scratch() as con:
            return {"reading": asdict(readers.read(Job(con, file, Path(asked["target"]), Path(asked["work"]), asked["source"], frozenset(asked["known"]), asked["options"])))}
    except SourceError as error:
        return {"error": {"message": error.message, "remedy": error.remedy, "source": error.source, "file": error.file, "row": error.row, "field": error.field}}
    except MemoryError:
        return {"error": {"message": "the file asks for more memory than this machine has", "source": asked["source"], "file": file.name, "remedy": "Split it, or deliver the table as CSV."}}


def main() -> None:
    """Serve requests until there are no more."""
    most = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    resource.setrlimit(resource.RLIMIT_AS, (most, most))      # a length made up by a file fails here, not for the whole machine
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))          # a core dump would hold the file's rows
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)                                             # nothing a library prints may stand between the answers
    for line in sys.stdin:
        print(json.dumps(_answer(line)), file=answers, flush=True)


if __name__ == "__main__":
    main()
