//go:build !race

package pymalloc

const underRace = false
