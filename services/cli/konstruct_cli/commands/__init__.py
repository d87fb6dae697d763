"""What each subcommand does; ``konstruct_cli.main`` declares them and loads the one that is used."""
