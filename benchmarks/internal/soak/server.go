package soak

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"github.com/pyarena/pyarena/benchmarks/internal/stamp"
)

// server is the load: goroutines that serve requests, each with sessions of its
// own, and a cache that they share.
type server struct {
	a        Allocator
	target   atomic.Int64 // live bytes of sessions and cache together, about
	idle     atomic.Bool  // no requests come
	stop     atomic.Bool
	fail     func(error) // any goroutine may call it
	counts   *Counts
	serving  sync.WaitGroup
	workers  []*worker
	cache    [cacheShards]shard
	messages []chan block // a worker's inbox
}

const (
	cacheShards   = 16
	sessionsPart  = 0.4       // of the target; the rest is the cache's
	inboxMessages = 512       // that a worker has before senders drop theirs
	perConnection = 2000      // requests
	largest       = 6 << 20   // bytes of an upload
	largestEntry  = 400 << 10 // of a cache entry
)

// block is one block, stamped over its whole length.
type block struct {
	p    unsafe.Pointer
	size int
	seed uint64
}

// shard is a part of the cache.
type shard struct {
	mu      sync.Mutex
	entries []block
	bytes   int
}

// session is what the server knows of a client: a record that is written at each
// visit, a name, and what the client did, which grows and is cut.
type session struct{ record, name, history block }

func (s *session) bytes() int { return s.record.size + s.name.size + s.history.size }

// worker serves requests, one after the other.
type worker struct {
	*server
	id       int
	src      source // where blocks come from: the allocator, or a heap
	rand     *rand.Rand
	sessions []session
	bytes    int // of those
	seeds    uint64
	mine     Counts
	garbage  []byte // for the collector
}

// start begins to serve by n goroutines.
func (s *server) start(n int, seed uint64) {
	for id := range n {
		s.messages = append(s.messages, make(chan block, inboxMessages))
		s.workers = append(s.workers, &worker{server: s, id: id, src: s.a, rand: rand.New(rand.NewPCG(seed, uint64(id)))})
	}
	for _, w := range s.workers {
		s.serving.Go(w.run)
	}
}

// end stops all goroutines, and frees all.
func (s *server) end() {
	s.stop.Store(true)
	s.serving.Wait()
	for _, w := range s.workers {
		s.serving.Go(w.leave)
	}
	s.serving.Wait()
	for _, w := range s.workers {
		s.counts.add(w.mine)
	}
}

// run serves until the server stops. Each connection has a goroutine of its own.
func (w *worker) run() {
	for !w.stop.Load() {
		done := make(chan struct{})
		go func() {
			defer close(done)
			w.connection()
		}()
		<-done
	}
}

// connection serves some requests. Every third worker does so with a heap, and
// sometimes forgets to release it.
func (w *worker) connection() {
	if w.id%3 == 2 {
		h := w.a.AcquireHeap()
		w.src = h
		defer func() {
			w.src = w.a
			if w.rand.IntN(8) != 0 {
				h.Release()
			}
		}()
		w.mine.Heaps++
	}
	for range perConnection {
		for w.idle.Load() && !w.stop.Load() {
			time.Sleep(tick)
		}
		if w.stop.Load() {
			return
		}
		w.request()
	}
}

// leave frees what the worker, its inbox and its part of the cache have.
func (w *worker) leave() {
	for i := range w.sessions {
		w.freeSession(&w.sessions[i])
	}
	w.sessions = nil
	for len(w.messages[w.id]) > 0 {
		w.free(<-w.messages[w.id])
	}
	for i := w.id; i < cacheShards; i += len(w.workers) {
		for _, b := range w.cache[i].entries {
			w.free(b)
		}
		w.cache[i].entries = nil
	}
}

// request reads one into a buffer, does what it asks for, and writes a response
// that grows.
func (w *worker) request() {
	w.mine.Requests++
	w.garbage = make([]byte, 256)
	buffer := w.malloc(512 + w.rand.IntN(8<<10))
	switch n := w.rand.IntN(1000); {
	case n < 300:
		w.visit()
	case n < 700:
		w.lookUp()
	case n < 900:
		w.tell()
	case n < 990:
		w.list()
	case n < 998:
		w.free(w.malloc(33<<10 + w.rand.IntN(480<<10))) // a large run
	default:
		w.free(w.malloc(largest/10 + w.rand.IntN(largest*9/10))) // mostly a huge mapping
	}
	w.receive()
	response := w.malloc(256)
	for response.p != nil && w.rand.IntN(3) == 0 {
		response = w.resize(response, response.size*2)
	}
	w.free(response)
	w.free(buffer)
}

// visit is a client's: one comes, one leaves, or one does something.
func (w *worker) visit() {
	want := int(sessionsPart * float64(w.target.Load()) / float64(len(w.workers)))
	if w.bytes < want || len(w.sessions) == 0 {
		w.newSession()
		return
	}
	for n := 0; n < 4 && w.bytes > want; n++ {
		w.endSession()
	}
	if len(w.sessions) == 0 {
		return
	}
	s := &w.sessions[w.rand.IntN(len(w.sessions))]
	w.verify(s.name)
	w.verify(s.record)
	w.stamp(&s.record)
	if s.history.p != nil && w.rand.IntN(2) == 0 {
		w.bytes -= s.history.size
		s.history = w.resize(s.history, 16+w.rand.IntN(min(2*s.history.size, 8<<10)))
		w.bytes += s.history.size
	}
	if w.rand.IntN(4) == 0 {
		w.endSession()
	}
}

func (w *worker) newSession() {
	s := session{w.malloc(208), w.malloc(8 + w.rand.IntN(57)), w.malloc(64 + w.rand.IntN(961))}
	w.sessions = append(w.sessions, s)
	w.bytes += s.bytes()
}

// endSession ends a random one.
func (w *worker) endSession() {
	i, last := w.rand.IntN(len(w.sessions)), len(w.sessions)-1
	s := w.sessions[i]
	w.sessions[i] = w.sessions[last]
	w.sessions = w.sessions[:last]
	w.bytes -= s.bytes()
	w.freeSession(&s)
}

func (w *worker) freeSession(s *session) {
	w.free(s.name)
	w.free(s.record)
	w.free(s.history)
}

// entrySize draws the size of a cache entry: half below 128 bytes, a quarter
// below 256, and so on up to 32 KiB; and now and then a large one.
func (w *worker) entrySize() int {
	if w.rand.IntN(500) == 0 {
		return largestEntry/10 + w.rand.IntN(largestEntry*9/10)
	}
	size := 64
	for size < 16<<10 && w.rand.IntN(2) == 0 {
		size *= 2
	}
	return size + w.rand.IntN(size)
}

// lookUp reads an entry of the cache, replaces it, or makes one. Any worker may
// have made what it frees.
func (w *worker) lookUp() {
	want := int((1 - sessionsPart) * float64(w.target.Load()) / cacheShards)
	s := &w.cache[w.rand.IntN(cacheShards)]
	fresh := w.malloc(w.entrySize())
	var old [4]block
	n := 0
	s.mu.Lock()
	if s.bytes < want || len(s.entries) == 0 {
		s.entries = append(s.entries, fresh)
		s.bytes += fresh.size
		fresh = block{}
	} else {
		for s.bytes > want && n < len(old) && len(s.entries) > 0 {
			i, last := w.rand.IntN(len(s.entries)), len(s.entries)-1
			old[n] = s.entries[i]
			s.bytes -= old[n].size
			n++
			s.entries[i] = s.entries[last]
			s.entries = s.entries[:last]
		}
		if len(s.entries) > 0 {
			e := &s.entries[w.rand.IntN(len(s.entries))]
			if w.rand.IntN(3) == 0 {
				s.bytes += fresh.size - e.size
				fresh, *e = *e, fresh
			} else {
				w.verify(*e)
			}
		}
	}
	s.mu.Unlock()
	for _, b := range append(old[:n], fresh) {
		w.free(b)
	}
}

// tell sends a message to another worker, who frees it.
func (w *worker) tell() {
	b := w.malloc(16 + w.rand.IntN(1009))
	select {
	case w.messages[w.rand.IntN(len(w.messages))] <- b:
		w.mine.Messages++
	default:
		w.free(b)
	}
}

// receive takes up to two messages from the inbox.
func (w *worker) receive() {
	for range 2 {
		select {
		case b := <-w.messages[w.id]:
			w.free(b)
		default:
			return
		}
	}
}

// list is a request for many rows: they come as a batch and go as one, but for
// some that go as messages.
func (w *worker) list() {
	var ps [128]unsafe.Pointer
	var rows [len(ps)]block
	n, size := 1+w.rand.IntN(len(ps)), 16+w.rand.IntN(369)
	if err := w.a.UnsafeMallocBatch(ps[:n], size); err != nil {
		w.fail(fmt.Errorf("batch of %d × %d bytes: %w", n, size, err))
		return
	}
	w.mine.Batches++
	for i, p := range ps[:n] {
		rows[i] = w.fresh(block{p: p, size: size})
	}
	kept := 0
	for i, b := range rows[:n] {
		if w.rand.IntN(16) == 0 {
			select {
			case w.messages[w.rand.IntN(len(w.messages))] <- b:
				w.mine.Messages++
				continue
			default:
			}
		}
		w.verify(b)
		ps[kept] = ps[i]
		kept++
	}
	w.mine.Frees += uint64(kept)
	if err := w.a.UnsafeFreeBatch(ps[:kept]); err != nil {
		w.fail(fmt.Errorf("free of a batch of %d × %d bytes: %w", kept, size, err))
	}
}

// errNil is for an address that is none.
var errNil = errors.New("the address is nil, and there is no error")

// malloc returns a block of one kind or another, stamped. After a failure it has
// no bytes.
func (w *worker) malloc(size int) (b block) {
	b.size = size
	var err error
	switch n := w.rand.IntN(32); {
	case n < 3:
		if b.p, err = w.src.UnsafeCalloc(size); err == nil && b.p != nil {
			err = stamp.VerifyZero(b.p, size)
		}
	case n < 4:
		align := 16 << w.rand.IntN(9)
		b.p, err = w.src.UnsafeAlignedMalloc(size, align)
		if err == nil && uintptr(b.p)%uintptr(align) != 0 {
			err = fmt.Errorf("%p is no multiple of %d", b.p, align)
		}
	default:
		b.p, err = w.src.UnsafeMalloc(size)
	}
	if err == nil && b.p == nil {
		err = errNil
	}
	if err != nil {
		w.fail(fmt.Errorf("worker %d: block of %d bytes: %w", w.id, size, err))
		return block{}
	}
	return w.fresh(b)
}

// fresh counts and stamps a new block.
func (w *worker) fresh(b block) block {
	w.mine.Blocks++
	w.mine.Bytes += uint64(b.size)
	w.stamp(&b)
	return b
}

// stamp gives a block a new seed, and fills it.
func (w *worker) stamp(b *block) {
	w.seeds++
	b.seed = stamp.Seed(w.seeds*uint64(len(w.workers)) + uint64(w.id))
	if b.p != nil {
		stamp.Fill(b.p, 0, b.size, b.seed)
	}
}

// verify checks a block over its whole length.
func (w *worker) verify(b block) {
	if b.p == nil {
		return
	}
	if err := stamp.Verify(b.p, b.size, b.seed); err != nil {
		w.fail(fmt.Errorf("worker %d: block at %p: %w", w.id, b.p, err))
	}
}

// resize changes the size of a block, what it holds being kept.
func (w *worker) resize(b block, size int) block {
	if b.p == nil {
		return b
	}
	w.verify(b)
	p, err := w.src.UnsafeRealloc(b.p, size)
	if err == nil && p == nil {
		err = errNil
	}
	if err == nil {
		err = stamp.Verify(p, min(b.size, size), b.seed)
	}
	if err != nil {
		w.fail(fmt.Errorf("worker %d: block at %p from %d to %d bytes: %w", w.id, b.p, b.size, size, err))
		return block{}
	}
	w.mine.Resizes++
	b.p, b.size = p, size
	w.stamp(&b)
	return b
}

// free checks a block, and frees it.
func (w *worker) free(b block) {
	if b.p == nil {
		return
	}
	w.verify(b)
	w.mine.Frees++
	if err := w.src.UnsafeFree(b.p); err != nil {
		w.fail(fmt.Errorf("worker %d: free of a block of %d bytes: %w", w.id, b.size, err))
	}
}
