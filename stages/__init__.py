"""The pipeline: its stages in the order of the data's way, then the rooms that hold their work.

    prepare           data source -> checked train, validation and test rows
    fetch_base        model source -> the foundation model, every file checked by hash
    evaluate_tfidf    fit a bag-of-words baseline, score the test rows: no foundation model
    evaluate_base     fit a head on the frozen encoder, score the test rows: the base
    train_lora        train LoRA and a head: the adapter
    evaluate_adapter  load the adapter in a new process, score the same test rows
    compare           pair adapter, base and TF-IDF row by row: the gain, and the report

A stage file loads, calls one piece of work, and writes. The work is in a folder by its subject.
A folder may import from those below it, never from one above (checked by import-linter):

  tools      the `bert-lora` command: its signatures in cli, the work in one module a command
  reporting  what `compare` works out and shows: significance, records, report, figures, model card
  training   the Trainer, its batches, checkpoints and curves
  scoring    from model and rows to probabilities, scores and predictions
  model      the classifier: base, head, training methods, saved adapters, device, tokens, speed
  rows       from files to rows: tables, checks, labels, splits
  sources    from a name in params.yaml to files on disk: catalogue, package index, Hub, folders
  running    how a stage starts and ends: environment, locks, disk, DVC's files, processes
  core       what all of them use: paths, errors, params, artefacts
"""
