/*
 * workload: the programs of benchmarks/internal/workload in C, for allocators
 * that are loaded under malloc. It asks for the same blocks in the same order:
 * what is changed here is changed there.
 *
 *     cc -O2 -pthread -o workload workload.c
 *     workload NAME THREADS SCALE       prints a result as JSON
 *     workload replay FILE              runs a file that the Go program wrote
 *     workload growth BLOCKS            the cost of a block when there are many
 *     workload decay                    what is resident after all is freed
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

typedef struct {
	int id;
	uint64_t rand;
	uint64_t mallocs, bytes, sum;
} Thread;

static int threads, scale;
static atomic_uint_fast64_t all_mallocs, all_bytes, all_sum;

static void fail(const char *what) {
	fprintf(stderr, "workload: %s\n", what);
	exit(1);
}

/* --- generator --- */

static uint64_t next(Thread *t) {
	uint64_t z = t->rand += 0x9e3779b97f4a7c15;
	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
	z = (z ^ z >> 27) * 0x94d049bb133111eb;
	return z ^ z >> 31;
}

static int64_t below(Thread *t, int64_t n) { return (int64_t)((uint64_t)(uint32_t)next(t) * (uint64_t)n >> 32); }

/* steps returns how often something is done that is done n times at scale 100. */
static int64_t steps(int64_t n) { return n * scale / 100 > 1 ? n * scale / 100 : 1; }

/* share returns a thread's share of the steps, at least one. */
static int64_t share(int64_t n) { return steps(n) / threads > 1 ? steps(n) / threads : 1; }

/* --- blocks --- */

static void *got(Thread *t, void *p, size_t size) {
	t->mallocs++;
	t->bytes += size;
	if (p == NULL) fail("no memory");
	return p;
}

static void *t_malloc(Thread *t, size_t size) { return got(t, malloc(size), size); }
static void *t_calloc(Thread *t, size_t size) { return got(t, calloc(1, size), size); }
static void *t_aligned(Thread *t, size_t size, size_t align) {
	return got(t, aligned_alloc(align, (size + align - 1) & ~(align - 1)), size);
}

static void drop(void **slot) {
	if (*slot != NULL) {
		free(*slot);
		*slot = NULL;
	}
}

static void drop_all(void **slots, int64_t n) {
	for (int64_t i = 0; i < n; i++) drop(&slots[i]);
}

static void fill(void *p, size_t size, uint8_t value) { memset(p, value, size); }

static void touch(void *p, size_t size) {
	for (size_t i = 0; i < size; i += 4096) ((volatile uint8_t *)p)[i] = (uint8_t)size;
}

/* --- the harness's own memory is not the allocator's --- */

#include <sys/mman.h>

static void *table(size_t bytes) {
	void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (p == MAP_FAILED) fail("no memory for a table");
	return p;
}

static void untable(void *p, size_t bytes) { munmap(p, bytes); }

static void **pointers(int64_t n) { return table(n * sizeof(void *)); }
static void unpointers(void **p, int64_t n) { untable(p, n * sizeof(void *)); }

/* --- threads --- */

typedef struct {
	Thread t;
	void (*f)(Thread *);
} Start;

static void run_thread(int id, void (*f)(Thread *)) {
	Thread t = {.id = id, .rand = id};
	f(&t);
	all_mallocs += t.mallocs;
	all_bytes += t.bytes;
	all_sum += t.sum;
}

static void *start(void *arg) {
	Start *s = arg;
	run_thread(s->t.id, s->f);
	return NULL;
}

static void each(int n, void (*f)(Thread *)) {
	pthread_t id[64];
	static Start starts[64];
	if (n > 64) fail("more than 64 threads");
	for (int i = 0; i < n; i++) {
		starts[i] = (Start){.t = {.id = i}, .f = f};
		if (pthread_create(&id[i], NULL, start, &starts[i]) != 0) fail("no thread");
	}
	for (int i = 0; i < n; i++) pthread_join(id[i], NULL);
}

/* --- mail: a queue of batches --- */

typedef struct {
	pthread_mutex_t mu;
	pthread_cond_t changed;
	void **batch[128];
	int len, cap, first;
} Mail;

static void mail_init(Mail *m, int cap) {
	memset(m, 0, sizeof *m);
	pthread_mutex_init(&m->mu, NULL);
	pthread_cond_init(&m->changed, NULL);
	m->cap = cap;
}

/* mail_send returns 0 if the queue is full and it may not wait. */
static int mail_send(Mail *m, void **b, int wait) {
	pthread_mutex_lock(&m->mu);
	while (wait && m->len == m->cap) pthread_cond_wait(&m->changed, &m->mu);
	int ok = m->len < m->cap;
	if (ok) {
		m->batch[(m->first + m->len++) % m->cap] = b;
		pthread_cond_broadcast(&m->changed);
	}
	pthread_mutex_unlock(&m->mu);
	return ok;
}

static void **mail_receive(Mail *m, int wait) {
	void **b = NULL;
	pthread_mutex_lock(&m->mu);
	while (wait && m->len == 0) pthread_cond_wait(&m->changed, &m->mu);
	if (m->len > 0) {
		b = m->batch[m->first];
		m->first = (m->first + 1) % m->cap;
		m->len--;
		pthread_cond_broadcast(&m->changed);
	}
	pthread_mutex_unlock(&m->mu);
	return b;
}

/* --- the programs --- */

static void pair_thread(Thread *t) {
	for (int64_t i = 0; i < steps(10000000); i++) {
		void *p = t_malloc(t, 64);
		*(volatile uint8_t *)p = 1;
		free(p);
	}
}

static void pair(void) { each(1, pair_thread); }

static void batch_thread(Thread *t) {
	enum { BLOCKS = 256 };
	int sizes[BLOCKS], order[BLOCKS];
	for (int i = 0; i < BLOCKS; i++) {
		sizes[i] = 16 + below(t, 497);
		order[i] = i;
	}
	for (int i = 0; i < BLOCKS; i++) {
		int j = below(t, BLOCKS), k = order[i];
		order[i] = order[j];
		order[j] = k;
	}
	void **slots = pointers(BLOCKS);
	for (int64_t n = 0; n < steps(20000); n++) {
		for (int i = 0; i < BLOCKS; i++) slots[i] = t_malloc(t, sizes[i]);
		for (int i = 0; i < BLOCKS; i++) free(slots[order[i]]);
	}
	unpointers(slots, BLOCKS);
}

static void batch(void) { each(1, batch_thread); }

static void alloc_test_fill(Thread *t, void **slots, uint16_t *sizes, int64_t i) {
	uint64_t x = next(t);
	int log = __builtin_ctzll((x & 127) + 1) + 2;
	size_t size = ((size_t)1 << log) + 1 + ((x >> 32) & (((size_t)1 << log) - 1));
	slots[i] = t_malloc(t, size);
	sizes[i] = (uint16_t)size;
	fill(slots[i], size, (uint8_t)i);
}

static void alloc_test_thread(Thread *t) {
	int64_t n = (1 << 18) / threads;
	void **slots = pointers(n);
	uint16_t *sizes = table(n * sizeof *sizes);
	for (int64_t i = 0; i < n / 2; i++) alloc_test_fill(t, slots, sizes, 2 * i);
	for (int64_t step = 0; step < share(2000000); step++) {
		int64_t range = n;
		for (int band = 0; band < 7 && below(t, 5) != 0; band++) range = range / 5 > 1 ? range / 5 : 1;
		int64_t i = below(t, range);
		if (slots[i] == NULL) {
			alloc_test_fill(t, slots, sizes, i);
			continue;
		}
		for (int j = 0; j < sizes[i] / 8; j++) t->sum += ((uint64_t *)slots[i])[j];
		drop(&slots[i]);
	}
	drop_all(slots, n);
	unpointers(slots, n);
	untable(sizes, n * sizeof *sizes);
}

static void alloc_test(void) { each(threads, alloc_test_thread); }

enum { LARSON_SLOTS = 5000, LARSON_STEPS = 250000 };
static void **larson_tables[64];

static void larson_fill(Thread *t) {
	larson_tables[t->id] = pointers(LARSON_SLOTS);
	for (int i = 0; i < LARSON_SLOTS; i++) larson_tables[t->id][i] = t_malloc(t, 8 + below(t, 992));
}

static void larson_generation(Thread *t) {
	void **slots = larson_tables[t->id % threads];
	for (int i = 0; i < LARSON_STEPS; i++) {
		void **slot = &slots[below(t, LARSON_SLOTS)];
		drop(slot);
		size_t size = 8 + below(t, 992);
		*slot = t_malloc(t, size);
		((volatile uint8_t *)*slot)[0] = 'a';
		((volatile uint8_t *)*slot)[size - 1] = 'b';
	}
}

static void larson_parent(Thread *t) {
	for (int g = 0; g < share(8); g++) {
		Start s = {.t = {.id = t->id + threads * (g + 1)}, .f = larson_generation};
		pthread_t id;
		if (pthread_create(&id, NULL, start, &s) != 0) fail("no thread");
		pthread_join(id, NULL);
	}
	drop_all(larson_tables[t->id], LARSON_SLOTS);
	unpointers(larson_tables[t->id], LARSON_SLOTS);
}

static void larson(void) {
	each(threads, larson_fill);
	each(threads, larson_parent);
}

enum { TRANSFER = 1000 };
static _Atomic(void *) transfer[TRANSFER];
static int mstress_round;

static void *mstress_malloc(Thread *t, int64_t words) {
	int64_t x = below(t, 10000);
	if (x == 0) words *= 1000;
	else if (x < 100) words *= 100;
	words++;
	uint64_t *w = t_calloc(t, words * 8);
	for (int64_t i = 0; i < words; i++) w[i] = (uint64_t)words ^ (uint64_t)i;
	return w;
}

static void mstress_free(void *p) {
	if (p == NULL) return;
	uint64_t *w = p, words = w[0];
	for (uint64_t i = 0; i < words; i++)
		if (w[i] != (words ^ i)) fail("a block's words changed while it was live");
	free(p);
}

static void mstress_drop(void **slots, int64_t n) {
	for (int64_t i = 0; i < n; i++) mstress_free(slots[i]);
	unpointers(slots, n);
}

static void mstress_thread(Thread *t) {
	t->rand = mstress_round * 1000 + t->id;
	int64_t allocs = 5000 * (t->id % 8 + 1), nkept = 0;
	void **data = pointers(allocs), **kept = pointers(allocs / 2);
	for (int64_t i = 0; i < allocs; i++) {
		if (below(t, 2) == 0 || nkept == allocs / 2) data[i] = mstress_malloc(t, 1LL << below(t, 5));
		else kept[nkept++] = mstress_malloc(t, 1LL << below(t, 7));
		if (below(t, 100) < 66) {
			int64_t j = below(t, i + 1);
			mstress_free(data[j]);
			data[j] = NULL;
		}
		if (below(t, 100) < 25) {
			int64_t j = below(t, i + 1);
			data[j] = atomic_exchange(&transfer[below(t, TRANSFER)], data[j]);
		}
	}
	mstress_drop(data, allocs);
	mstress_drop(kept, allocs / 2);
}

static void mstress(void) {
	for (mstress_round = 0; mstress_round < steps(25); mstress_round++) each(threads, mstress_thread);
	for (int i = 0; i < TRANSFER; i++) mstress_free(transfer[i]);
}

enum { RP_SLOTS = 1000, RP_SEND = 100 };
static Mail mails[64];

static void rptest_receive(int id) {
	void **b;
	while ((b = mail_receive(&mails[id], 0)) != NULL) {
		drop_all(b, RP_SEND);
		unpointers(b, RP_SEND);
	}
}

static void rptest_thread(Thread *t) {
	void **slots = pointers(RP_SLOTS);
	for (int loop = 0; loop < share(400); loop++) {
		int64_t at = below(t, RP_SLOTS);
		for (int i = 0; i < RP_SLOTS / 2; i++, at = (at + 277) % RP_SLOTS) {
			drop(&slots[at]);
			int64_t a = below(t, 15993), b = below(t, 15993);
			size_t size = 8 + (a < b ? a : b);
			static const int aligns[] = {0, 8, 16};
			int align = aligns[below(t, 3)];
			slots[at] = align == 0 ? t_malloc(t, size) : t_aligned(t, size, align);
			touch(slots[at], size);
		}
		rptest_receive(t->id);
		if (loop % 2 == 0) {
			void **b = pointers(RP_SEND);
			int64_t from = below(t, RP_SLOTS - RP_SEND);
			memcpy(b, &slots[from], RP_SEND * sizeof *b);
			memset(&slots[from], 0, RP_SEND * sizeof *b);
			if (!mail_send(&mails[(t->id + 1) % threads], b, 0)) {
				drop_all(b, RP_SEND);
				unpointers(b, RP_SEND);
			}
		}
	}
	drop_all(slots, RP_SLOTS);
	unpointers(slots, RP_SLOTS);
}

static void rptest(void) {
	for (int i = 0; i < threads; i++) mail_init(&mails[i], 64);
	each(threads, rptest_thread);
	for (int i = 0; i < threads; i++) rptest_receive(i);
}

enum { RING = 16384, WINDOW = 4096 };

static void sh6_thread(Thread *t) {
	void **slots = pointers(RING);
	int at = 0;
	for (int round = 0; round < share(30); round++) {
		for (int size = 1000; size >= 1; size /= 2) {
			for (int i = 0; i < WINDOW; i++) {
				drop(&slots[at]);
				slots[at] = t_malloc(t, size);
				*(volatile uint8_t *)slots[at] = (uint8_t)size;
				at = (at + 1) % RING;
			}
			for (int i = 0; i < WINDOW; i++) drop(&slots[(at + RING - 3 * WINDOW + i) % RING]);
			for (int i = 0; i < WINDOW; i++) drop(&slots[(at + RING - 3 * WINDOW - 1 - i) % RING]);
		}
	}
	drop_all(slots, RING);
	unpointers(slots, RING);
}

static void sh6bench(void) { each(threads, sh6_thread); }

enum { SH8_SLOTS = 8192, SH8_SMALL = 1000000 };
static const struct { int percent, bytes; } sh8_sizes[] = {
	{40, 32}, {65, 64}, {80, 128}, {88, 256}, {93, 512}, {96, 1024}, {98, 4096}, {99, 16384}, {100, 168524},
};
static void **sh8_small;

static void sh8_thread(Thread *t) {
	void **slots = pointers(SH8_SLOTS);
	for (int64_t step = 0; step < share(800000); step++) {
		void **slot = &slots[below(t, SH8_SLOTS)];
		drop(slot);
		int64_t x = below(t, 100), from = 8;
		for (size_t h = 0; h < sizeof sh8_sizes / sizeof *sh8_sizes; h++) {
			if (x < sh8_sizes[h].percent) {
				size_t size = from + below(t, sh8_sizes[h].bytes - from + 1);
				*slot = t_malloc(t, size);
				touch(*slot, size);
				break;
			}
			from = sh8_sizes[h].bytes;
		}
	}
	drop_all(slots, SH8_SLOTS);
	unpointers(slots, SH8_SLOTS);
}

static void sh8_make(Thread *t) {
	for (int i = 0; i < SH8_SMALL; i++) sh8_small[i] = t_malloc(t, 8);
}

static void sh8_free(Thread *t) {
	for (int i = t->id; i < SH8_SMALL; i += threads) free(sh8_small[i]);
}

static void sh8bench(void) {
	each(threads, sh8_thread);
	sh8_small = pointers(SH8_SMALL);
	run_thread(0, sh8_make);
	each(threads, sh8_free);
	unpointers(sh8_small, SH8_SMALL);
}

enum { BATCH = 4096, BATCH_SIZE = 64 };
static Mail batches;

static void xmalloc_thread(Thread *t) {
	int pairs = threads / 2;
	for (int i = 0; i < steps(600) / pairs; i++) {
		if (t->id % 2 == 1) {
			void **b = mail_receive(&batches, 1);
			drop_all(b, BATCH);
			unpointers(b, BATCH);
			continue;
		}
		void **b = pointers(BATCH);
		for (int j = 0; j < BATCH; j++) {
			b[j] = t_malloc(t, BATCH_SIZE);
			fill(b[j], BATCH_SIZE, (uint8_t)j);
		}
		mail_send(&batches, b, 1);
	}
}

static void xmalloc_test(void) {
	mail_init(&batches, threads / 2 * 2);
	each(threads / 2 * 2, xmalloc_thread);
}

enum { CACHE_OBJECTS = 2000, CACHE_WRITES = 10000 };
static void **cache_first;

static void cache_loop(Thread *t, void *p) {
	for (int i = 0; i < share(CACHE_OBJECTS); i++) {
		volatile uint8_t *b = p;
		for (int j = 0; j < CACHE_WRITES; j++) ++*b;
		free(p);
		p = t_malloc(t, 1);
		*(volatile uint8_t *)p = 0;
	}
	free(p);
}

static void cache_make(Thread *t) {
	for (int i = 0; i < threads; i++) {
		cache_first[i] = t_malloc(t, 1);
		*(volatile uint8_t *)cache_first[i] = 0;
	}
}

static void cache_scratch_thread(Thread *t) { cache_loop(t, cache_first[t->id]); }

static void cache_scratch(void) {
	cache_first = pointers(threads);
	run_thread(0, cache_make);
	each(threads, cache_scratch_thread);
}

static void cache_thrash_thread(Thread *t) {
	void *p = t_malloc(t, 1);
	*(volatile uint8_t *)p = 0;
	cache_loop(t, p);
}

static void cache_thrash(void) { each(threads, cache_thrash_thread); }

static void glibc_simple_thread(Thread *t) {
	void **slots = pointers(1600);
	for (int round = 0; round < steps(60); round++)
		for (int size = 16; size <= 64; size *= 2)
			for (int n = 25; n <= 1600; n *= 4)
				for (int again = 0; again < 1600 / n; again++) {
					for (int i = 0; i < n; i++) {
						slots[i] = t_malloc(t, size);
						fill(slots[i], size, (uint8_t)i);
					}
					for (int i = 0; i < n / 2; i++) drop(&slots[i]);
					for (int i = n - 1; i >= n / 2; i--) drop(&slots[i]);
				}
	unpointers(slots, 1600);
}

static void glibc_simple(void) { each(1, glibc_simple_thread); }

static void glibc_thread_thread(Thread *t) {
	void **slots = pointers(1024);
	for (int64_t step = 0; step < share(3000000); step++) {
		void **slot = &slots[below(t, 1024)];
		drop(slot);
		size_t size = 4 * 65536 / (1 + below(t, 65536));
		if (size > 32768) size = 32768;
		*slot = t_malloc(t, size);
		*(volatile uint8_t *)*slot = (uint8_t)size;
	}
	drop_all(slots, 1024);
	unpointers(slots, 1024);
}

static void glibc_thread(void) { each(threads, glibc_thread_thread); }

static void malloc_large_thread(Thread *t) {
	enum { LIVE = 20, FROM = 5 << 20, TO = 25 << 20 };
	void **slots = pointers(LIVE);
	for (int i = 0; i < steps(30); i++) {
		void **slot = &slots[below(t, LIVE)];
		drop(slot);
		size_t size = FROM + below(t, TO - FROM);
		*slot = t_malloc(t, size);
		touch(*slot, size);
	}
	drop_all(slots, LIVE);
	unpointers(slots, LIVE);
}

static void malloc_large(void) { each(1, malloc_large_thread); }

static _Atomic(void *) leaked[1000];
static int mleak_round;

static void mleak_thread(Thread *t) {
	t->rand = mleak_round * 1000 + t->id;
	for (int i = 0; i < 1000; i++) {
		int64_t at = below(t, 1000);
		void *p = atomic_exchange(&leaked[at], t_calloc(t, 128));
		if (p != NULL) free(p);
	}
}

static void mleak(void) {
	for (mleak_round = 0; mleak_round < steps(60); mleak_round++) each(10, mleak_thread);
	for (int i = 0; i < 1000; i++) free(leaked[i]);
}

/* --- a trace --- */

/*
 * A file of the Go program: the magic, counts of slots and of ops, then ops of
 * four 32-bit words: kind and log2 of the alignment, slot, size, old size.
 */
enum { OP_MALLOC, OP_CALLOC, OP_ALIGNED, OP_REALLOC, OP_FREE };

static uint64_t mark_of(uint32_t slot) { return ((uint64_t)slot + 1) * 0x9e3779b97f4a7c15; }

static void mark(void *p, uint32_t slot, uint32_t size) {
	uint64_t m = mark_of(slot), n = ~m;
	if (size < 8) {
		if (size > 0) *(uint8_t *)p = (uint8_t)m;
		return;
	}
	memcpy((uint8_t *)p + size - 8, &n, 8);
	memcpy(p, &m, 8);
}

static void check(void *p, uint32_t slot, uint32_t size) {
	uint64_t m = mark_of(slot), n = ~m;
	if (size < 8) {
		if (size > 0 && *(uint8_t *)p != (uint8_t)m) fail("wrong content");
	} else if (memcmp(p, &m, 8) != 0 || (size >= 16 && memcmp((uint8_t *)p + size - 8, &n, 8) != 0)) {
		fail("wrong content");
	}
}

typedef struct { uint32_t kind, slot, size, old; } Op;
static Op *ops;
static uint64_t nops;
static void **replay_slots;

static void replay_load(const char *file) {
	FILE *f = fopen(file, "rb");
	uint64_t head[3];
	if (f == NULL || fread(head, sizeof head, 1, f) != 1 || head[0] != 0x31304f5052594141) fail("no file of ops");
	replay_slots = pointers(head[1]);
	nops = head[2];
	ops = table(nops * sizeof *ops);
	if (fread(ops, sizeof *ops, nops, f) != nops) fail("the file of ops ends early");
	fclose(f);
}

static void replay_thread(Thread *t) {
	for (uint64_t i = 0; i < nops; i++) {
		Op *op = &ops[i];
		void **slot = &replay_slots[op->slot], *p;
		switch (op->kind & 0xff) {
		case OP_FREE:
			check(*slot, op->slot, op->old);
			free(*slot);
			*slot = NULL;
			continue;
		case OP_REALLOC:
			check(*slot, op->slot, op->old);
			p = got(t, realloc(*slot, op->size ? op->size : 1), op->size);
			break;
		case OP_CALLOC: p = t_calloc(t, op->size); break;
		case OP_ALIGNED: p = got(t, aligned_alloc((size_t)1 << (op->kind >> 8), op->size), op->size); break;
		default: p = t_malloc(t, op->size);
		}
		*slot = p;
		mark(p, op->slot, op->size);
	}
}

static void replay(void) { each(1, replay_thread); }

/* --- growth, and what is resident after --- */

enum { VALUE = 64 };

/* status returns a figure of /proc/self/status in bytes, 0 where there is none. */
static uint64_t status(const char *name) {
	char line[256];
	unsigned long long kib = 0;
	FILE *f = fopen("/proc/self/status", "r");
	while (f != NULL && fgets(line, sizeof line, f) != NULL)
		if (strncmp(line, name, strlen(name)) == 0) sscanf(line + strlen(name), ": %llu", &kib);
	if (f != NULL) fclose(f);
	return kib * 1024;
}

/* bring_in makes resident what is mapped of files, as BringIn of internal/proc does. */
static void bring_in(void) {
	static char line[8192];
	unsigned long begin, end;
	FILE *f = fopen("/proc/self/maps", "r");
	while (f != NULL && fgets(line, sizeof line, f) != NULL)
		if (sscanf(line, "%lx-%lx", &begin, &end) == 2 && strchr(line, '/') != NULL)
			madvise((void *)begin, end - begin, 22 /* MADV_POPULATE_READ */);
	if (f != NULL) fclose(f);
}

static uint64_t now(void) {
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static void **values(int64_t n) {
	void **slots = pointers(n);
	memset(slots, 1, n * sizeof *slots); /* resident */
	return slots;
}

static void fill_values(void **slots, int64_t n) {
	for (int64_t i = 0; i < n; i++) {
		slots[i] = malloc(VALUE);
		*(volatile uint64_t *)slots[i] = i;
	}
}

static void grow(int64_t n) {
	enum { SWAPS = 1000000 };
	void **slots = values(n);
	uint64_t before = status("VmRSS"), begun = now();
	fill_values(slots, n);
	uint64_t made = now() - begun, after = status("VmRSS");
	Thread t = {.rand = 1};
	begun = now();
	for (int i = 0; i < SWAPS; i++) {
		void **slot = &slots[below(&t, n)];
		free(*slot);
		*slot = malloc(VALUE);
		*(volatile uint64_t *)*slot = 1;
	}
	uint64_t swapped = now() - begun;
	for (int64_t i = n - 1; i > 0; i--) {
		int64_t j = below(&t, i + 1);
		void *p = slots[i];
		slots[i] = slots[j], slots[j] = p;
	}
	begun = now();
	for (int64_t i = 0; i < n; i++) free(slots[i]);
	printf("{\"growth\":{\"blocks\":%lld,\"make_ns\":%.3f,\"swap_ns\":%.3f,\"free_ns\":%.3f,\"overhead_b\":%.3f}}\n", (long long)n,
		(double)made / n, (double)swapped / SWAPS, (double)(now() - begun) / n, ((double)after - (double)before) / n - VALUE);
}

static void decay(void) {
	int64_t n = (256 << 20) / VALUE;
	void **slots = values(n);
	fill_values(slots, n);
	printf("{\"decay\":[{\"at_ns\":-50000000,\"resident\":%llu}", (unsigned long long)status("VmRSS"));
	for (int64_t i = 0; i < n; i++) free(slots[i]);
	memset(slots, 0, n * sizeof *slots);
	for (uint64_t begun = now(), at; (at = now() - begun) < 4000000000u;) {
		printf(",{\"at_ns\":%llu,\"resident\":%llu}", (unsigned long long)at, (unsigned long long)status("VmRSS"));
		nanosleep(&(struct timespec){.tv_nsec = 50000000}, NULL);
	}
	printf("]}\n");
}

/* --- main --- */

static const struct { const char *name; void (*f)(void); } programs[] = {
	{"alloc-test", alloc_test}, {"batch", batch}, {"pair", pair}, {"cache-scratch", cache_scratch}, {"cache-thrash", cache_thrash},
	{"glibc-simple", glibc_simple}, {"glibc-thread", glibc_thread}, {"larson", larson},
	{"malloc-large", malloc_large}, {"mleak", mleak}, {"mstress", mstress}, {"rptest", rptest},
	{"sh6bench", sh6bench}, {"sh8bench", sh8bench}, {"xmalloc-test", xmalloc_test},
};

int main(int argc, char **argv) {
	void (*f)(void) = NULL;
	if (argc == 2 && strcmp(argv[1], "decay") == 0) {
		decay();
		return 0;
	}
	if (argc == 3 && strcmp(argv[1], "growth") == 0 && atoll(argv[2]) > 0) {
		grow(atoll(argv[2]));
		return 0;
	}
	if (argc == 3 && strcmp(argv[1], "replay") == 0) {
		replay_load(argv[2]);
		threads = 1;
		f = replay;
	} else if (argc == 4) {
		threads = atoi(argv[2]);
		scale = atoi(argv[3]);
		for (size_t i = 0; i < sizeof programs / sizeof *programs; i++)
			if (strcmp(programs[i].name, argv[1]) == 0) f = programs[i].f;
	}
	if (f == NULL || threads < 1) fail("usage: workload NAME THREADS SCALE | replay FILE | growth BLOCKS | decay");
	bring_in();
	uint64_t before = status("VmRSS"), begun = now();
	f();
	uint64_t elapsed = now() - begun;
	printf("{\"elapsed_ns\":%llu,\"mallocs\":%llu,\"bytes\":%llu,\"sum\":%llu,\"peak_rss\":%llu,\"begin_rss\":%llu}\n",
		(unsigned long long)elapsed, (unsigned long long)all_mallocs, (unsigned long long)all_bytes,
		(unsigned long long)all_sum, (unsigned long long)status("VmHWM"), (unsigned long long)before);
	return 0;
}
