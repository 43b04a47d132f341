// Detects objects in a photo over REST; writes a line of JSON for each, the best first.
// Needs Go's standard library only.
//
//	go run detect.go photo.jpg [http://127.0.0.1:8000]
package main

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strconv"
	"time"
)

// Detection is one object: its class, its score from 0 to 1, its corners in pixels.
type Detection struct {
	Label string  `json:"label"`
	Score float32 `json:"score"`
	X1    float32 `json:"x1"`
	Y1    float32 `json:"y1"`
	X2    float32 `json:"x2"`
	Y2    float32 `json:"y2"`
}

// One client serves all requests of a program, also at the same time.
var client = http.Client{Timeout: 30 * time.Second}

// detect sends an encoded photo as it is.
func detect(url string, photo []byte) ([]Detection, error) {
	header := fmt.Sprintf(`{"inputs": [{"name": "image", "datatype": "BYTES", "shape": [1, 1],
		"parameters": {"binary_data_size": %d}}],
		"parameters": {"score_threshold": 0.5}}`, 4+len(photo)) // the last line is optional
	// JSON cannot hold a photo's bytes, so they follow it: their number in 4 bytes, then they.
	body := binary.LittleEndian.AppendUint32([]byte(header), uint32(len(photo)))
	body = append(body, photo...)
	request, err := http.NewRequest("POST", url+"/v2/models/ensemble/infer", bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	request.Header.Set("Inference-Header-Content-Length", strconv.Itoa(len(header)))
	response, err := client.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	return read(response)
}

// read takes the detections out of the tensors, or the server's error.
func read(response *http.Response) ([]Detection, error) {
	var answer struct {
		Error   string
		Outputs []struct {
			Name string
			Data json.RawMessage
		}
	}
	if err := json.NewDecoder(response.Body).Decode(&answer); err != nil {
		return nil, fmt.Errorf("%s: %w", response.Status, err)
	}
	if response.StatusCode != http.StatusOK {
		return nil, errors.New(answer.Error)
	}
	var count []int
	var labels []string
	var scores, boxes []float32
	tensors := map[string]any{"num_detections": &count, "detection_labels": &labels,
		"detection_scores": &scores, "detection_boxes": &boxes}
	for _, output := range answer.Outputs {
		if tensor, ok := tensors[output.Name]; ok {
			if err := json.Unmarshal(output.Data, tensor); err != nil {
				return nil, fmt.Errorf("%s: %w", output.Name, err)
			}
		}
	}
	if len(count) != 1 {
		return nil, errors.New("the answer has no num_detections")
	}
	detections := make([]Detection, count[0])
	for row := range detections {
		box := boxes[4*row : 4*row+4]
		detections[row] = Detection{labels[row], scores[row], box[0], box[1], box[2], box[3]}
	}
	return detections, nil
}

func run(file, url string) error {
	photo, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	detections, err := detect(url, photo)
	if err != nil {
		return err
	}
	lines := json.NewEncoder(os.Stdout)
	for _, detection := range detections {
		if err := lines.Encode(detection); err != nil {
			return err
		}
	}
	return nil
}

func main() {
	if len(os.Args) < 2 {
		fmt.Fprintln(os.Stderr, "usage: detect PHOTO [URL]")
		os.Exit(2)
	}
	url := "http://127.0.0.1:8000"
	if len(os.Args) > 2 {
		url = os.Args[2]
	}
	if err := run(os.Args[1], url); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
