//go:build !linux || !(amd64 || race) || pymalloc_nolinkname

package shard

import "unsafe"

// Where there is no barrier, or stores are not seen in order, or sections are
// not pinned, shards stay where they are.
const follows = false

func (s *Shard) leave() { released(unsafe.Pointer(s)) }
