def manual_seed(seed):
    pass
