// Package proc asks the operating system about this process.
package proc

// Usage is what the process takes. A figure that the system does not tell is 0.
type Usage struct {
	Virtual  uint64 // address space, bytes
	Resident uint64 // memory that is not of a file, bytes; exact to some pages per CPU
	Faults   uint64 // page faults so far that needed no disk
}

const unknownCPU = "unknown processor"
