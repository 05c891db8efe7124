"""What a person runs by hand: the `bert-lora` command and its subcommands."""
