"""llama.py MODEL DIRECTORY PORT: llama.cpp's own HTTP server, out of the package xllamacpp, until it is
ended. It has one slot, whose files are in DIRECTORY."""

import signal
import sys

import xllamacpp


def main():
    model, directory, port = sys.argv[1:]
    params = xllamacpp.CommonParams()
    params.model.path = model
    params.slot_save_path = f"{directory}/"
    params.port = int(port)
    params.n_ctx = 2048
    params.n_parallel = 1
    server = xllamacpp.Server(params)  # it serves while this is kept
    signal.pause()
    del server


main()
