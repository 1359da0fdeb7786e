// Package proc asks the operating system, and the Go runtime, about this process.
package proc

import "runtime/metrics"

// Usage is what the process takes. A figure that the system does not tell is 0.
type Usage struct {
	Virtual  uint64 // address space, bytes
	Resident uint64 // memory that is not of a file, bytes; exact to some pages per CPU
	Faults   uint64 // page faults so far that needed no disk
}

const unknownCPU = "unknown processor"

// Collector is the work of Go's collector so far.
type Collector struct {
	Cycles uint64  // that ended
	CPU    float64 // of those, in seconds
}

// ReadCollector returns the work so far.
func ReadCollector() Collector {
	s := []metrics.Sample{{Name: "/gc/cycles/total:gc-cycles"}, {Name: "/cpu/classes/gc/total:cpu-seconds"}}
	metrics.Read(s)
	return Collector{s[0].Value.Uint64(), s[1].Value.Float64()}
}

// GoMemory reads what the Go runtime has from the system, and leaves no garbage.
type GoMemory [3]metrics.Sample

// NewGoMemory returns a reader.
func NewGoMemory() *GoMemory {
	return &GoMemory{{Name: "/memory/classes/total:bytes"}, {Name: "/memory/classes/heap/released:bytes"}, {Name: "/memory/classes/heap/objects:bytes"}}
}

// Mapped returns what the runtime has mapped and not given back, in bytes.
func (m *GoMemory) Mapped() uint64 {
	metrics.Read(m[:])
	return m[0].Value.Uint64() - m[1].Value.Uint64()
}

// Objects returns the bytes of the objects on the heap, dead ones too until they
// are swept.
func (m *GoMemory) Objects() uint64 {
	metrics.Read(m[:])
	return m[2].Value.Uint64()
}
