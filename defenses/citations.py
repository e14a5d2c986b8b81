"""BibTeX entries of the papers that things are from."""

DLG = """@inproceedings{zhu2019deep,
  title = {Deep Leakage from Gradients},
  author = {Zhu, Ligeng and Liu, Zhijian and Han, Song},
  booktitle = {Advances in Neural Information Processing Systems},
  volume = {32},
  year = {2019},
  eprint = {1906.08935},
  archiveprefix = {arXiv},
}"""
