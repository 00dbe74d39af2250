package tim

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"strconv"
)

// JSON bodies have the structs' names as keys. timjs writes every field, null where it is unset, and some keys in
// another case than its server does; encoding/json takes both.

// parser is a struct in compact encoding.
type parser interface{ parse([]byte) error }

// decode reads a body into m, by whichever encoding the frame is in.
func decode(body []byte, isJSON bool, m parser) error {
	if !isJSON {
		return m.parse(body)
	}
	// timjs pads nothing, but a reader of its frames that does is no reason to refuse them.
	if err := json.Unmarshal(bytes.TrimRight(body, "\x00"), m); err != nil {
		return errFormat
	}
	return nil
}

// jsonStream is TimStream in JSON.
type jsonStream struct {
	ID    int64    `json:"id"`
	VNode string   `json:"VNode"`
	Dtype uint8    `json:"dtype,omitempty"`
	Body  []byte   `json:"body,omitempty"` // base64
	From  string   `json:"fromNode"`
	_     struct{} // keyed literals only
}

// UnmarshalJSON takes what timjs writes.
func (m *stream) UnmarshalJSON(b []byte) error {
	var in struct {
		VNode string
		Dtype int64
		Body  json.RawMessage
	}
	if err := json.Unmarshal(b, &in); err != nil {
		return err
	}
	var err error
	m.VNode, m.Dtype = in.VNode, uint8(in.Dtype)
	m.Body, err = jsonBytes(in.Body)
	return err
}

// MarshalJSON writes what a server of these clients writes.
func (m *stream) MarshalJSON() ([]byte, error) {
	return json.Marshal(&jsonStream{ID: m.ID, VNode: m.VNode, Dtype: m.Dtype, Body: m.Body, From: m.From})
}

// jsonBytes reads bytes that went through JSON.stringify in one of three forms: a string in base64, an array, or what
// becomes of an Uint8Array, {"0":1,"1":2}. The result is the caller's.
func jsonBytes(b json.RawMessage) ([]byte, error) {
	b = bytes.TrimSpace(b)
	if len(b) == 0 || bytes.Equal(b, []byte("null")) {
		return nil, nil
	}
	switch b[0] {
	case '"':
		var s string
		if err := json.Unmarshal(b, &s); err != nil {
			return nil, err
		}
		return base64.StdEncoding.DecodeString(s)
	case '[', '{':
		return jsonElements(b)
	}
	return nil, errFormat
}

// jsonElements reads an array of numbers, or an object whose keys count them, element by element: an object of a
// million keys never exists as one.
func jsonElements(b []byte) ([]byte, error) {
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	open, err := d.Token()
	if err != nil {
		return nil, err
	}
	out := make([]byte, 0, len(b)/4)
	for d.More() {
		if open == json.Delim('{') {
			key, err := d.Token()
			if err != nil {
				return nil, err
			}
			if key != strconv.Itoa(len(out)) {
				return nil, errFormat
			}
		}
		value, err := d.Token()
		if err != nil {
			return nil, err
		}
		number, is := value.(json.Number)
		if !is {
			return nil, errFormat
		}
		n, err := number.Int64()
		if err != nil || n < -128 || n > 255 {
			return nil, errFormat
		}
		out = append(out, byte(n))
	}
	return out, nil
}
