package room

import "testing"

// A batch's buffer is the smallest that its frames fit.
func TestClassOf(t *testing.T) {
	for i, size := range classSizes {
		if got := classOf(size); got != i {
			t.Errorf("%d bytes go to class %d, want %d", size, got, i)
		}
		want := i + 1
		if want == len(classSizes) {
			want = -1
		}
		if got := classOf(size + 1); got != want {
			t.Errorf("%d bytes go to class %d, want %d", size+1, got, want)
		}
	}
	if got := classOf(0); got != 0 {
		t.Errorf("nothing goes to class %d", got)
	}
}
