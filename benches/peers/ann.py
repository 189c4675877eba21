"""HNSW of faiss, hnswlib and usearch, asked line by line by benches/benches/ann.rs.

Arguments: a folder with vectors.f32 and queries.f32 (little-endian rows of unit vectors), dimensions, links (M) and
efConstruction. Each line of input is answered by one line of JSON:

    build NAME          builds an index; seconds, and how much resident memory it took
    search NAME EF K    searches all queries one after the other; seconds; writes the places found to found.u32
    drop NAME           frees an index

Everything runs on one thread.
"""

import json
import resource
import sys
import time
from importlib.metadata import version
from pathlib import Path

import faiss
import hnswlib
import numpy as np
from usearch.index import Index

folder = Path(sys.argv[1])
dimensions, links, ef_construction = map(int, sys.argv[2:5])
vectors = np.fromfile(folder / "vectors.f32", dtype="<f4").reshape(-1, dimensions)
queries = np.fromfile(folder / "queries.f32", dtype="<f4").reshape(-1, dimensions)
faiss.omp_set_num_threads(1)
built = {}


def build_faiss():
    index = faiss.IndexHNSWFlat(dimensions, links, faiss.METRIC_INNER_PRODUCT)
    index.hnsw.efConstruction = ef_construction
    index.add(vectors)
    return index


def build_hnswlib():
    index = hnswlib.Index(space="ip", dim=dimensions)
    index.init_index(max_elements=len(vectors), M=links, ef_construction=ef_construction)
    index.set_num_threads(1)
    index.add_items(vectors, np.arange(len(vectors)), num_threads=1)
    return index


def build_usearch():
    index = Index(ndim=dimensions, metric="ip", dtype="f32", connectivity=links, expansion_add=ef_construction)
    index.add(np.arange(len(vectors)), vectors, threads=1)
    return index


def search_faiss(index, ef, k):
    index.hnsw.efSearch = ef
    return lambda: index.search(queries, k)[1]


def search_hnswlib(index, ef, k):
    index.set_ef(ef)
    return lambda: index.knn_query(queries, k=k, num_threads=1)[0]


def search_usearch(index, ef, k):
    index.expansion_search = ef
    return lambda: index.search(queries, k, threads=1).keys


builders = {"faiss": build_faiss, "hnswlib": build_hnswlib, "usearch": build_usearch}
searchers = {"faiss": search_faiss, "hnswlib": search_hnswlib, "usearch": search_usearch}
versions = {"faiss": version("faiss-cpu"), "hnswlib": version("hnswlib"), "usearch": version("usearch")}


def resident():
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


def answer(words):
    match words:
        case ["build", name]:
            before, started = resident(), time.perf_counter()
            built[name] = builders[name]()
            seconds = time.perf_counter() - started
            return {"seconds": seconds, "bytes": resident() - before, "version": versions[name]}
        case ["search", name, ef, k]:
            search = searchers[name](built[name], int(ef), int(k))
            started = time.perf_counter()
            found = search()
            seconds = time.perf_counter() - started
            np.ascontiguousarray(found, dtype="<u4").tofile(folder / "found.u32")
            return {"seconds": seconds}
        case ["drop", name]:
            del built[name]
            return {}
    raise ValueError(f"no such command: {words}")


for line in sys.stdin:
    print(json.dumps(answer(line.split())), flush=True)
