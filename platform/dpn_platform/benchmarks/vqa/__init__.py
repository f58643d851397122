"""What VQAv2, TextVQA and VizWiz share: ten people's answers, and what counts as theirs."""
