"""Parts of the test configs: a small model and data set, and a hook that brings about the fault named by FAULT."""

import os
import resource
import signal
import time

import torch
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.registry import DATASETS, HOOKS, MODELS
from torch import nn


@MODELS.register_module()
class Wide(BaseModel):
    """A classifier of half a megabyte; its batch norm remembers what it saw."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(3, 100), nn.BatchNorm1d(100), nn.Dropout(0.5), nn.Linear(100, 1000))

    def forward(self, inputs, mode='tensor'):
        return {'loss': self.layers(torch.stack(list(inputs))).square().mean()}


@DATASETS.register_module()
class Noise(torch.utils.data.Dataset):
    """Random numbers."""

    def __len__(self):
        return 8

    def __getitem__(self, index):
        return {'inputs': torch.rand(3) + index}


@HOOKS.register_module()
class FaultHook(Hook):
    """FAULT names what happens, as 'cut=2' or 'nan=3 slow=0.2'.

    cut: the process is killed when so many checkpoints were written and the next is half on the disk.
    nan: the images of this iteration, counted from 1, are NaN in the last process.
    slow: how many seconds each iteration takes longer.
    room: the size of files in bytes above which the disk is full, after the first checkpoint.
    """

    priority = 'HIGHEST'

    def __init__(self):
        self.faults = dict(fault.split('=') for fault in os.environ.get('FAULT', '').split())
        self.saves = 0

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        time.sleep(float(self.faults.get('slow', 0)))
        if runner.iter + 1 == int(self.faults.get('nan', 0)) and runner.rank == runner.world_size - 1:
            data_batch['inputs'] = [torch.full(image.shape, torch.nan) for image in data_batch['inputs']]

    def before_save_checkpoint(self, runner, checkpoint):
        self.saves += 1
        if 'cut' in self.faults and self.saves > int(self.faults['cut']):
            os.fsync = self.cut
        if 'room' in self.faults and self.saves > 1:
            resource.setrlimit(resource.RLIMIT_FSIZE, (int(self.faults['room']), resource.RLIM_INFINITY))

    def cut(self, handle):
        path = os.readlink(f'/proc/self/fd/{handle}')
        os.truncate(path, os.path.getsize(path) // 2)
        os.kill(os.getpid(), signal.SIGKILL)
