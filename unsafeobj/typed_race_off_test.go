//go:build !race

package unsafeobj_test

const underRace = false
