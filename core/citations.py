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

TOP_K = """@inproceedings{stich2018sparsified,
  title = {Sparsified {SGD} with Memory},
  author = {Stich, Sebastian U. and Cordonnier, Jean-Baptiste and Jaggi, Martin},
  booktitle = {Advances in Neural Information Processing Systems},
  volume = {31},
  year = {2018},
  eprint = {1809.07599},
  archiveprefix = {arXiv},
}"""

SIGN_SGD = """@inproceedings{bernstein2018signsgd,
  title = {{signSGD}: Compressed Optimisation for Non-Convex Problems},
  author = {Bernstein, Jeremy and Wang, Yu-Xiang and Azizzadenesheli, Kamyar and Anandkumar, Animashree},
  booktitle = {International Conference on Machine Learning},
  year = {2018},
  eprint = {1802.04434},
  archiveprefix = {arXiv},
}"""

EF_SIGN = """@inproceedings{karimireddy2019error,
  title = {Error Feedback Fixes {SignSGD} and other Gradient Compression Schemes},
  author = {Karimireddy, Sai Praneeth and Rebjock, Quentin and Stich, Sebastian U. and Jaggi, Martin},
  booktitle = {International Conference on Machine Learning},
  year = {2019},
  eprint = {1901.09847},
  archiveprefix = {arXiv},
}"""

QSGD = """@inproceedings{alistarh2017qsgd,
  title = {{QSGD}: Communication-Efficient {SGD} via Gradient Quantization and Encoding},
  author = {Alistarh, Dan and Grubic, Demjan and Li, Jerry and Tomioka, Ryota and Vojnovic, Milan},
  booktitle = {Advances in Neural Information Processing Systems},
  volume = {30},
  year = {2017},
  eprint = {1610.02132},
  archiveprefix = {arXiv},
}"""

TERNGRAD = """@inproceedings{wen2017terngrad,
  title = {{TernGrad}: Ternary Gradients to Reduce Communication in Distributed Deep Learning},
  author = {Wen, Wei and Xu, Cong and Yan, Feng and Wu, Chunpeng and Wang, Yandan and Chen, Yiran and
    Li, Hai},
  booktitle = {Advances in Neural Information Processing Systems},
  volume = {30},
  year = {2017},
  eprint = {1705.07878},
  archiveprefix = {arXiv},
}"""

RANDOM_SPARSIFY = """@inproceedings{wangni2018gradient,
  title = {Gradient Sparsification for Communication-Efficient Distributed Optimization},
  author = {Wangni, Jianqiao and Wang, Jialei and Liu, Ji and Zhang, Tong},
  booktitle = {Advances in Neural Information Processing Systems},
  volume = {31},
  year = {2018},
  eprint = {1710.09854},
  archiveprefix = {arXiv},
}"""

DUAL_PRUNE = """@inproceedings{xue2024revisiting,
  title = {Revisiting Gradient Pruning: A Dual Realization for Defending against Gradient Attacks},
  author = {Xue, Lulu and Hu, Shengshan and Zhao, Ruizhi and Zhang, Leo Yu and Hu, Shengqing and
    Sun, Lichao and Yao, Dezhong},
  booktitle = {AAAI Conference on Artificial Intelligence},
  volume = {38},
  year = {2024},
  eprint = {2401.16687},
  archiveprefix = {arXiv},
}"""

SOTERIA = """@inproceedings{sun2021soteria,
  title = {Soteria: Provable Defense against Privacy Leakage in Federated Learning from Representation
    Perspective},
  author = {Sun, Jingwei and Li, Ang and Wang, Binghui and Yang, Huanrui and Li, Hai and Chen, Yiran},
  booktitle = {IEEE/CVF Conference on Computer Vision and Pattern Recognition},
  year = {2021},
  eprint = {2012.06043},
  archiveprefix = {arXiv},
}"""

PRECODE = """@inproceedings{scheliga2022precode,
  title = {{PRECODE} - A Generic Model Extension to Prevent Deep Gradient Leakage},
  author = {Scheliga, Daniel and M{\\"a}der, Patrick and Seeland, Marco},
  booktitle = {IEEE/CVF Winter Conference on Applications of Computer Vision},
  year = {2022},
  eprint = {2108.04725},
  archiveprefix = {arXiv},
}"""

MIXUP = """@inproceedings{zhang2018mixup,
  title = {mixup: Beyond Empirical Risk Minimization},
  author = {Zhang, Hongyi and Cisse, Moustapha and Dauphin, Yann N. and Lopez-Paz, David},
  booktitle = {International Conference on Learning Representations},
  year = {2018},
  eprint = {1710.09412},
  archiveprefix = {arXiv},
}"""

INSTAHIDE = """@inproceedings{huang2020instahide,
  title = {{InstaHide}: Instance-hiding Schemes for Private Distributed Learning},
  author = {Huang, Yangsibo and Song, Zhao and Li, Kai and Arora, Sanjeev},
  booktitle = {International Conference on Machine Learning},
  year = {2020},
  eprint = {2010.02772},
  archiveprefix = {arXiv},
}"""

ATS = """@inproceedings{gao2021privacy,
  title = {Privacy-preserving Collaborative Learning with Automatic Transformation Search},
  author = {Gao, Wei and Guo, Shangwei and Zhang, Tianwei and Qiu, Han and Wen, Yonggang and Liu, Yang},
  booktitle = {IEEE/CVF Conference on Computer Vision and Pattern Recognition},
  year = {2021},
  eprint = {2011.12505},
  archiveprefix = {arXiv},
}"""
