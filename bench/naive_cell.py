"""One cell as a harness runs it: a process that loads the model and asks one sample at a time, nothing shared."""

import argparse
import json
from pathlib import Path

from lofi.cell import Cell
from lofi.config import from_dict
from lofi.data.images import open_image
from lofi.engine.job import open_job
from lofi.engine.parts import open_session
from lofi.engine.plain import run_plain
from lofi.sweep import GENERATE


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("results", type=Path)
    parser.add_argument("cell", nargs=5, metavar=("MODEL", "DATASET", "METHOD", "KEEP", "SEED"))
    arguments = parser.parse_args()
    model, dataset, method, keep, seed = arguments.cell
    sweep = from_dict(json.loads((arguments.results / "sweep.json").read_text()))
    job = open_job(arguments.results, sweep, model, dataset, 0)
    session = open_session(job)
    cell, answered = Cell(model, dataset, method, keep, int(seed)), 0
    for span in job.spans:
        for photo in job.photos(span):
            for doc in photo.docs:
                drawn = doc.max_new_tokens if session.constants.mode(doc) == GENERATE else 0
                image = open_image(photo.content or b"")
                run_plain(session, image, photo.key, doc.prompt, cell, job.method(cell), drawn)
                answered += 1
    print(answered)


if __name__ == "__main__":
    main()
