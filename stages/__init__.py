"""The pipeline, in the order of the data's way.

    prepare           data source -> checked train, validation and test rows
    fetch_base        model source -> the foundation model, every file checked by hash
    evaluate_tfidf    fit a bag-of-words baseline, score the test rows: no foundation model
    evaluate_base     fit a head on the frozen body, score the test rows: the base
    train_lora        train LoRA and the head from that very head: the adapter
    evaluate_adapter  load the adapter afresh, score the same test rows
    compare           pair base and adapter row by row: the gain, and the report

What two or more stages use lives in `stages.shared`; what one stage uses lives in its file, and
what `compare` works out and shows in `stages.reporting`.
What a person runs by hand (the `bert-lora` command) lives in `stages.tools`.
"""
