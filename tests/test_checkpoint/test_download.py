"""One process downloads a checkpoint, the others wait for it."""

import http.server
import multiprocessing
import threading

import pytest
import torch
import torch.distributed as dist

from mmatconv.checkpoint.download import download
from mmatconv.checkpoint.reader import read_checkpoint
from mmatconv.errors import UserError

PROCESSES = 2


class Server(http.server.ThreadingHTTPServer):
    """Serves one checkpoint, and keeps the first who asks waiting for a second one."""

    def __init__(self, content):
        super().__init__(('127.0.0.1', 0), Handler)
        self.content, self.requests, self.second = content, [], threading.Event()
        self.address = f'http://127.0.0.1:{self.server_port}'


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.requests.append(self.path)
        if len(self.server.requests) > 1:
            self.server.second.set()
        # Long enough for a process that does not wait to ask; one that waits never does.
        self.server.second.wait(0.5)
        self.send_response(200)
        self.send_header('Content-Length', str(len(self.server.content)))
        self.end_headers()
        self.wfile.write(self.server.content)

    def log_message(self, *_):
        pass


@pytest.fixture
def server(tmp_path, monkeypatch):
    monkeypatch.setenv('TORCH_HOME', str(tmp_path / 'hub'))
    torch.save({'w': torch.arange(5.0)}, tmp_path / 'made.pth')
    with Server((tmp_path / 'made.pth').read_bytes()) as server:
        yield server


def load(rank, address, folder, grouped, serving):
    torch.set_num_threads(1)
    if grouped:
        dist.init_process_group('gloo', init_method=f'file://{folder}/store', rank=rank, world_size=PROCESSES)
    serving.wait()
    assert torch.equal(read_checkpoint(f'{address}/one.pth')['w'], torch.arange(5.0))
    if grouped:
        dist.destroy_process_group()


@pytest.mark.parametrize('grouped', [True, False])
def test_several_processes_make_one_request(server, tmp_path, grouped):
    context = multiprocessing.get_context('fork')
    serving = context.Event()
    workers = [
        context.Process(target=load, args=(rank, server.address, tmp_path, grouped, serving))
        for rank in range(PROCESSES)
    ]
    for worker in workers:
        worker.start()
    # A thread that serves while the process is forked might hold a lock that the child then waits for.
    threading.Thread(target=server.serve_forever, daemon=True).start()
    serving.set()
    for worker in workers:
        worker.join()
    server.shutdown()
    assert [worker.exitcode for worker in workers] == [0] * PROCESSES
    assert server.requests == ['/one.pth']


def test_what_is_there_is_not_asked_for_again(server, tmp_path):
    server.second.set()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    path = download(f'{server.address}/one.pth?version=2')
    assert path == tmp_path / 'hub' / 'hub' / 'checkpoints' / 'one.pth'
    server.shutdown()
    assert download(f'{server.address}/one.pth') == path and server.requests == ['/one.pth?version=2']


def test_a_folder_that_cannot_be_written_is_a_sentence(tmp_path, monkeypatch):
    (tmp_path / 'file').write_text('')
    monkeypatch.setenv('TORCH_HOME', str(tmp_path / 'file'))
    with pytest.raises(UserError, match=r"'http://127\.0\.0\.1:9/a\.pth' cannot be downloaded"):
        download('http://127.0.0.1:9/a.pth')
