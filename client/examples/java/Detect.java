import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.NoSuchFileException;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/**
 * Detects objects in a photo over REST; writes a line of JSON for each, the best first. Needs Java 17
 * and nothing else; the answer comes as binary tensors, since Java brings no reader of JSON.
 *
 * <pre>java Detect.java photo.jpg [http://127.0.0.1:8000]</pre>
 */
public class Detect {
    /** One object: its class, its score from 0 to 1, its corners in pixels. */
    record Detection(String label, float score, float x1, float y1, float x2, float y2) {
        String json() {
            String text = label.replace("\\", "\\\\").replace("\"", "\\\"");
            return String.format(
                    Locale.ROOT,
                    "{\"label\":\"%s\",\"score\":%s,\"x1\":%s,\"y1\":%s,\"x2\":%s,\"y2\":%s}",
                    text, score, x1, y1, x2, y2);
        }
    }

    static final String HEADER_LENGTH = "Inference-Header-Content-Length";
    static final Duration TIMEOUT = Duration.ofSeconds(30);
    static final Pattern TENSOR =
            Pattern.compile("\"name\":\"(\\w+)\"[^}]*\"binary_data_size\":(\\d+)");

    // One client serves all requests of a program, also at the same time.
    static final HttpClient CLIENT = HttpClient.newBuilder()
            .version(HttpClient.Version.HTTP_1_1)
            .connectTimeout(TIMEOUT)
            .build();

    /** Sends an encoded photo as it is. */
    static List<Detection> detect(String url, byte[] photo)
            throws IOException, InterruptedException {
        byte[] header = """
                {"inputs": [{"name": "image", "datatype": "BYTES", "shape": [1, 1],
                  "parameters": {"binary_data_size": %d}}],
                  "parameters": {"score_threshold": 0.5, "binary_data_output": true}}"""
                .formatted(4 + photo.length).getBytes(StandardCharsets.UTF_8);
        // JSON cannot hold a photo's bytes, so they follow it: their number in 4 bytes, then they.
        ByteArrayOutputStream body = new ByteArrayOutputStream();
        body.write(header);
        body.write(littleEndian(new byte[4]).putInt(photo.length).array());
        body.write(photo);
        HttpRequest request = HttpRequest.newBuilder(URI.create(url + "/v2/models/ensemble/infer"))
                .timeout(TIMEOUT)
                .header(HEADER_LENGTH, String.valueOf(header.length))
                .POST(HttpRequest.BodyPublishers.ofByteArray(body.toByteArray()))
                .build();
        HttpResponse<byte[]> response =
                CLIENT.send(request, HttpResponse.BodyHandlers.ofByteArray());
        if (response.statusCode() != 200) {
            throw new IOException(new String(response.body(), StandardCharsets.UTF_8));
        }
        int length = (int) response.headers().firstValueAsLong(HEADER_LENGTH).orElseThrow();
        return detections(tensors(response.body(), length));
    }

    /** Cuts the answer: JSON of this length that names the tensors, then their bytes. */
    static Map<String, ByteBuffer> tensors(byte[] answer, int length) {
        Map<String, ByteBuffer> found = new HashMap<>();
        Matcher tensor = TENSOR.matcher(new String(answer, 0, length, StandardCharsets.UTF_8));
        int start = length;
        while (tensor.find()) {
            int size = Integer.parseInt(tensor.group(2));
            found.put(tensor.group(1), littleEndian(answer).slice(start, size));
            start += size;
        }
        found.values().forEach(bytes -> bytes.order(ByteOrder.LITTLE_ENDIAN)); // slice forgets it
        return found;
    }

    static List<Detection> detections(Map<String, ByteBuffer> tensors) {
        ByteBuffer labels = tensors.get("detection_labels");
        ByteBuffer scores = tensors.get("detection_scores");
        ByteBuffer boxes = tensors.get("detection_boxes");
        List<Detection> found = new ArrayList<>();
        for (int left = tensors.get("num_detections").getInt(); left > 0; left--) {
            byte[] label = new byte[labels.getInt()];
            labels.get(label);
            found.add(new Detection(
                    new String(label, StandardCharsets.UTF_8), scores.getFloat(),
                    boxes.getFloat(), boxes.getFloat(), boxes.getFloat(), boxes.getFloat()));
        }
        return found;
    }

    static ByteBuffer littleEndian(byte[] bytes) {
        return ByteBuffer.wrap(bytes).order(ByteOrder.LITTLE_ENDIAN);
    }

    public static void main(String[] arguments) throws InterruptedException {
        if (arguments.length == 0) {
            System.err.println("usage: java Detect.java PHOTO [URL]");
            System.exit(2);
        }
        String url = arguments.length > 1 ? arguments[1] : "http://127.0.0.1:8000";
        try {
            detect(url, Files.readAllBytes(Path.of(arguments[0])))
                    .forEach(detection -> System.out.println(detection.json()));
        } catch (NoSuchFileException error) {
            System.err.println(error.getMessage() + ": no such file");
            System.exit(1);
        } catch (IOException error) {
            System.err.println(error.getMessage() == null ? error : error.getMessage());
            System.exit(1);
        }
    }
}
