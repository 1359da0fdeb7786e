package pool_test

import (
	"strings"
	"testing"
	"unsafe"

	"github.com/pyarena/pyarena/internal/pool"
)

// TestCheck damages a pool that has blocks in use, free ones, some on the chain
// and some on the remote list, in every place that Check guards.
func TestCheck(t *testing.T) {
	var remote, chained unsafe.Pointer
	build := func() *pool.Header {
		h := newPool(t, 48)
		all := allocAll(t, h)
		for _, p := range all[:40] {
			push(t, h, p, pool.Pushed)
		}
		if ok, broken := h.Refill(0); !ok || broken != nil {
			t.Fatal(ok, broken)
		}
		for _, p := range all[50:53] {
			push(t, h, p, pool.Pushed)
		}
		for _, p := range all[60:65] {
			h.Push(h.Index(p))
		}
		remote, chained = all[52], all[0]
		return h
	}
	if err := build().Check(); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		want   string
		damage func(h *pool.Header)
	}{
		{"live and", func(h *pool.Header) { live, _, _ := h.Damage(); *live-- }},
		{"blocks beyond the last", func(h *pool.Header) { h.Push(h.Blocks()) }},
		{"handed out so far", func(h *pool.Header) { _, carved, _ := h.Damage(); *carved = 1 }},
		{"on its remote list was written to", func(*pool.Header) { *(*uint64)(remote)++ }},
		{"on its chain was written to", func(*pool.Header) { *(*uint64)(chained) = 0 }},
		{"on its remote list is free twice", func(h *pool.Header) { h.Push(h.Index(remote)) }},
		{"no pool is like that", func(h *pool.Header) { _, _, blocks := h.Damage(); *blocks = 0 }},
	} {
		h := build()
		c.damage(h)
		if err := h.Check(); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("Check of a damaged pool: %v, want %q", err, c.want)
		}
	}
}
