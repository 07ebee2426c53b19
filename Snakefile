# The line from notebooks to figures, and the studies, as rules. `make figures` and `python -m bedgen_utils figures` call
# it; so can you, with all that Snakemake has:
#   snakemake -n --config profile=smoke                          what would run
#   snakemake --config profile=smoke only=03,04 seed=1 out=DIR
#   snakemake --workflow-profile profiles/slurm --config profile=gpu      as jobs of a cluster
#   snakemake studies                                            the rows that studies have not measured yet
# profiles/default/config.yaml holds the options that it needs. tools/pipeline.py says what is out of date and does the
# work of each rule.
import os
import re
import sys

REPO = workflow.basedir
sys.path.insert(0, REPO)
from tools import pipeline

THREADS = re.match(r"\s*[1-9]\d*", os.environ.get("OMP_NUM_THREADS", ""))  # of "4,2"; OpenMP passes over "all"
PYTHON, PARENT = sys.executable, os.getpid()
CONFIG = [f"{key}={value}" for key, value in config.items() if value is not None]
try:
    LINE = pipeline.line(CONFIG)
    if workflow.is_main_process:  # each job of a cluster reads this file too
        LOCK = pipeline.prepare(LINE)
except (ValueError, OSError) as error:
    sys.exit(f"error: {error}")
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [REPO, os.environ.get("PYTHONPATH")]))


workdir: str(LINE.run)


localrules:
    all,
    publish,
    studies,


wildcard_constraints:
    number="|".join(LINE.chosen),


rule all:
    input:
        expand("{number}.published", number=LINE.chosen),


# Of the notebooks that are not chosen, what they left in an earlier run is read as it is.
def left_by_others(wildcards):
    needed = [n for n in pipeline.NEEDS.get(wildcards.number, []) if n in LINE.texts]
    return [f"{n}.left.json" for n in needed if n in LINE.chosen or LINE.file(n, "left.json").exists()]


# One after the other on this machine (profiles/default), each with all cores unless OMP_NUM_THREADS says otherwise: the
# results depend on the number of threads.
rule notebook:
    input:
        "{number}.reads.json",
        left_by_others,
    output:
        "{number}.left.json",
    params:
        minutes=lambda wildcards: pipeline.minutes(LINE, wildcards.number),
    priority: lambda wildcards: -int(wildcards.number)
    threads: int(THREADS[0]) if THREADS else os.cpu_count()
    resources:
        machine=1,
        gpu=lambda wildcards: int(pipeline.numbers(LINE, wildcards.number).get("gpu", False)),
    shell:
        "{PYTHON:q} -m tools.pipeline run {wildcards.number} {CONFIG:q} --parent {PARENT} --minutes {params.minutes}"


rule publish:
    input:
        "{number}.left.json",
    output:
        "{number}.published",
    priority: 1  # as soon as the notebook has run
    shell:
        "{PYTHON:q} -m tools.pipeline publish {wildcards.number} {CONFIG:q} --parent {PARENT}"


# Each missing row of a study's table is a job, side by side with others, on one thread as all rows before it. What a job
# is called and that it adds its row in one step is the business of studies/study.py.
rule studies:
    input:
        lambda wildcards: [f"studies/{study}/{job}" for study, job in pipeline.study_jobs()],


rule study:
    output:
        temp(touch("studies/{study}/{job}")),
    threads: 1
    shell:
        "{PYTHON:q} {REPO:q}/studies/{wildcards.study}.py {wildcards.job:q}"
