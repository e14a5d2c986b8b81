"""BibTeX entries of the papers that defenses, attacks and protocols come from."""

DLG = """@inproceedings{zhu2019deep,
  title = {Deep Leakage from Gradients},
  author = {Zhu, Ligeng and Liu, Zhijian and Han, Song},
  booktitle = {Advances in Neural Information Processing Systems},
  volume = {32},
  year = {2019},
  eprint = {1906.08935},
  archiveprefix = {arXiv},
}"""

FEDSGD = """@inproceedings{mcmahan2017communication,
  title = {Communication-Efficient Learning of Deep Networks from Decentralized Data},
  author = {McMahan, H. Brendan and Moore, Eider and Ramage, Daniel and Hampson, Seth and
    {Ag{\\"u}era y Arcas}, Blaise},
  booktitle = {Artificial Intelligence and Statistics},
  year = {2017},
  eprint = {1602.05629},
  archiveprefix = {arXiv},
}"""

IDLG = """@misc{zhao2020idlg,
  title = {{iDLG}: Improved Deep Leakage from Gradients},
  author = {Zhao, Bo and Mopuri, Konda Reddy and Bilen, Hakan},
  year = {2020},
  eprint = {2001.02610},
  archiveprefix = {arXiv},
}"""

UNROLLED = """@article{dimitrov2022data,
  title = {Data Leakage in Federated Averaging},
  author = {Dimitrov, Dimitar I. and Balunovi{\\'c}, Mislav and Konstantinov, Nikola and Vechev, Martin},
  journal = {Transactions on Machine Learning Research},
  year = {2022},
  eprint = {2206.12395},
  archiveprefix = {arXiv},
}"""

SECURE_SUM = """@inproceedings{bonawitz2017practical,
  title = {Practical Secure Aggregation for Privacy-Preserving Machine Learning},
  author = {Bonawitz, Keith and Ivanov, Vladimir and Kreuter, Ben and Marcedone, Antonio and
    McMahan, H. Brendan and Patel, Sarvar and Ramage, Daniel and Segal, Aaron and Seth, Karn},
  booktitle = {ACM SIGSAC Conference on Computer and Communications Security},
  year = {2017},
}"""

COSINE = """@inproceedings{geiping2020inverting,
  title = {Inverting Gradients - How easy is it to break privacy in federated learning?},
  author = {Geiping, Jonas and Bauermeister, Hartmut and Dr{\\"o}ge, Hannah and Moeller, Michael},
  booktitle = {Advances in Neural Information Processing Systems},
  volume = {33},
  year = {2020},
  eprint = {2003.14053},
  archiveprefix = {arXiv},
}"""

RECURSIVE = """@inproceedings{zhu2021rgap,
  title = {{R-GAP}: Recursive Gradient Attack on Privacy},
  author = {Zhu, Junyi and Blaschko, Matthew},
  booktitle = {International Conference on Learning Representations},
  year = {2021},
  eprint = {2010.07733},
  archiveprefix = {arXiv},
}"""

SPEAR = """@inproceedings{dimitrov2024spear,
  title = {{SPEAR}: Exact Gradient Inversion of Batches in Federated Learning},
  author = {Dimitrov, Dimitar I. and Baader, Maximilian and M{\\"u}ller, Mark Niklas and Vechev, Martin},
  booktitle = {Advances in Neural Information Processing Systems},
  volume = {37},
  year = {2024},
  eprint = {2403.03945},
  archiveprefix = {arXiv},
}"""

DP_SGD = """@inproceedings{abadi2016deep,
  title = {Deep Learning with Differential Privacy},
  author = {Abadi, Martin and Chu, Andy and Goodfellow, Ian and McMahan, H. Brendan and Mironov, Ilya
            and Talwar, Kunal and Zhang, Li},
  booktitle = {ACM Conference on Computer and Communications Security},
  year = {2016},
}"""

DP_FEDAVG = """@inproceedings{mcmahan2018learning,
  title = {Learning Differentially Private Recurrent Language Models},
  author = {McMahan, H. Brendan and Ramage, Daniel and Talwar, Kunal and Zhang, Li},
  booktitle = {International Conference on Learning Representations},
  year = {2018},
}"""


DAGER = """@inproceedings{petrov2024dager,
  title = {{DAGER}: Exact Gradient Inversion for Large Language Models},
  author = {Petrov, Ivo and Dimitrov, Dimitar I. and Baader, Maximilian and M{\\"u}ller, Mark Niklas and
    Vechev, Martin},
  booktitle = {Advances in Neural Information Processing Systems},
  volume = {37},
  year = {2024},
  eprint = {2405.15586},
  archiveprefix = {arXiv},
}"""

BAG = """@inproceedings{gupta2022recovering,
  title = {Recovering Private Text in Federated Learning of Language Models},
  author = {Gupta, Samyak and Huang, Yangsibo and Zhong, Zexuan and Gao, Tianyu and Li, Kai and Chen, Danqi},
  booktitle = {Advances in Neural Information Processing Systems},
  volume = {35},
  year = {2022},
  eprint = {2205.08514},
  archiveprefix = {arXiv},
}"""

TAG = """@inproceedings{deng2021tag,
  title = {{TAG}: Gradient Attack on Transformer-based Language Models},
  author = {Deng, Jieren and Wang, Yijue and Li, Ji and Wang, Chenghong and Shang, Chao and Liu, Hang and
    Rajasekaran, Sanguthevar and Ding, Caiwen},
  booktitle = {Findings of the Association for Computational Linguistics: {EMNLP}},
  year = {2021},
  eprint = {2103.06819},
  archiveprefix = {arXiv},
}"""
