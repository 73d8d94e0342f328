/* Preloaded before PyTorch: MKL asks this function whether the processor is Intel's and takes its AVX-512
   path only then. Saying yes shows what the same library does on this processor when it is let. The count
   shows that it was asked at all. */
static int asked;

int mkl_serv_intel_cpu_true(void) {
    asked += 1;
    return 1;
}

int amend_bench_times_asked(void) {
    return asked;
}
