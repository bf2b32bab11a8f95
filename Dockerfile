# JupyterLab with the notebooks, on a CPU:
#
#   docker build --tag somlib --build-arg TORCH_INDEX=ADDRESS .
#   docker run --rm --publish 8888:8888 somlib            # then open the address that it prints
#   docker run --rm somlib somlib reproduce --only 01     # or run a notebook without a browser
#
# ADDRESS is that of PyTorch's CPU builds; PyTorch's install page gives it for your system.
#
# For CUDA change two things: build without TORCH_INDEX (the default build for Linux brings the CUDA
# libraries, several gigabytes), and start with `docker run --gpus all`, which needs a driver and
# NVIDIA's container toolkit on the host. `somlib reproduce --device cuda` then refuses, in words, to run
# where no GPU is seen.
FROM python:3.12-slim

ARG TORCH_INDEX=
WORKDIR /somlib
RUN useradd --create-home reader && chown reader /somlib
USER reader
ENV PATH="/home/reader/.local/bin:$PATH" PIP_NO_CACHE_DIR=1

# the packages first: they change less often than what follows
COPY --chown=reader pyproject.toml constraints.txt README.md LICENSE ./
COPY --chown=reader somlib somlib
RUN PIP_EXTRA_INDEX_URL="$TORCH_INDEX" \
    pip install --user --constraint constraints.txt --editable '.[peers]'

COPY --chown=reader . .
EXPOSE 8888
CMD ["python", "-m", "jupyterlab", "notebooks", "--ip", "0.0.0.0", "--no-browser"]
