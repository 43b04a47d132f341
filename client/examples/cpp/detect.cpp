// Detects objects in a photo over REST; writes a line of JSON for each, the best first.
// Needs C++17 and libcurl (Debian: libcurl4-openssl-dev). The answer comes as binary tensors, since
// C++ brings no reader of JSON.
//
//   g++ -std=c++17 -O2 detect.cpp -lcurl -o detect
//   ./detect photo.jpg [http://127.0.0.1:8000]

#include <curl/curl.h>

#include <cstdint>
#include <cstring>
#include <fstream>
#include <iomanip>
#include <iostream>
#include <iterator>
#include <map>
#include <memory>
#include <regex>
#include <stdexcept>
#include <string>
#include <vector>

constexpr long kSeconds = 30;  // from sending to answer
const std::string kHeaderLength = "Inference-Header-Content-Length: ";

struct Detection {
  std::string label;
  float score;           // 0 to 1
  float x1, y1, x2, y2;  // pixels
};

struct Answer {
  long status = 0;
  std::string body;
  size_t header_length = 0;  // how much of the body is JSON
};

/// Reads a tensor from its first byte to its last. The machine must be little endian, as the wire is.
class Reader {
 public:
  explicit Reader(std::string bytes) : bytes_(std::move(bytes)) {}

  template <typename Number>
  Number next() {
    Number number;
    std::memcpy(&number, take(sizeof number).data(), sizeof number);
    return number;
  }

  /// An element of type BYTES: its length in 4 bytes, then the bytes.
  std::string text() { return take(next<uint32_t>()); }

 private:
  std::string take(size_t size) {
    if (size > bytes_.size() - at_) throw std::runtime_error("the answer's tensors are too short");
    at_ += size;
    return bytes_.substr(at_ - size, size);
  }

  std::string bytes_;
  size_t at_ = 0;
};

size_t keep_body(char* data, size_t, size_t size, void* answer) {
  static_cast<Answer*>(answer)->body.append(data, size);
  return size;
}

size_t keep_header(char* data, size_t, size_t size, void* answer) {
  static const std::regex length(kHeaderLength + "(\\d+)\\s*", std::regex::icase);
  const std::string header(data, size);
  std::smatch found;
  if (std::regex_match(header, found, length)) {
    static_cast<Answer*>(answer)->header_length = std::stoul(found[1]);
  }
  return size;
}

/// What is sent: JSON, and behind it the photo, which JSON cannot hold: its length, then its bytes.
std::string request(const std::string& photo, size_t* header_length) {
  const uint32_t size = photo.size();
  const std::string header =
      R"({"inputs": [{"name": "image", "datatype": "BYTES", "shape": [1, 1],)"
      R"( "parameters": {"binary_data_size": )" + std::to_string(4 + photo.size()) + R"(}}],)"
      R"( "parameters": {"score_threshold": 0.5, "binary_data_output": true}})";
  *header_length = header.size();
  return header + std::string(reinterpret_cast<const char*>(&size), sizeof size) + photo;
}

/// Keep the handle where there are many photos: it keeps the connection.
Answer post(CURL* curl, const std::string& url, const std::string& photo) {
  size_t header_length = 0;
  const std::string body = request(photo, &header_length);
  curl_slist* list = nullptr;
  list = curl_slist_append(list, (kHeaderLength + std::to_string(header_length)).c_str());
  list = curl_slist_append(list, "Content-Type: application/octet-stream");
  list = curl_slist_append(list, "Expect:");  // large photos would wait for a "100 Continue"
  const std::unique_ptr<curl_slist, decltype(&curl_slist_free_all)> headers(
      list, curl_slist_free_all);

  Answer answer;
  curl_easy_setopt(curl, CURLOPT_URL, (url + "/v2/models/ensemble/infer").c_str());
  curl_easy_setopt(curl, CURLOPT_HTTPHEADER, headers.get());
  curl_easy_setopt(curl, CURLOPT_POSTFIELDS, body.data());
  curl_easy_setopt(curl, CURLOPT_POSTFIELDSIZE_LARGE, static_cast<curl_off_t>(body.size()));
  curl_easy_setopt(curl, CURLOPT_TIMEOUT, kSeconds);
  curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, keep_body);
  curl_easy_setopt(curl, CURLOPT_WRITEDATA, &answer);
  curl_easy_setopt(curl, CURLOPT_HEADERFUNCTION, keep_header);
  curl_easy_setopt(curl, CURLOPT_HEADERDATA, &answer);
  if (const CURLcode code = curl_easy_perform(curl)) {
    throw std::runtime_error(url + ": " + curl_easy_strerror(code));
  }
  curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &answer.status);
  return answer;
}

/// Cuts the answer: JSON that names the tensors, then their bytes in the same order.
std::map<std::string, Reader> tensors(const Answer& answer) {
  static const std::regex tensor("\"name\":\"(\\w+)\"[^}]*\"binary_data_size\":(\\d+)");
  const std::string json = answer.body.substr(0, answer.header_length);
  std::map<std::string, Reader> found;
  size_t start = answer.header_length;
  for (std::sregex_iterator each(json.begin(), json.end(), tensor), end; each != end; ++each) {
    const size_t size = std::stoul((*each)[2]);
    found.emplace((*each)[1], Reader(answer.body.substr(start, size)));
    start += size;
  }
  return found;
}

/// Sends an encoded photo as it is.
std::vector<Detection> detect(CURL* curl, const std::string& url, const std::string& photo) {
  const Answer answer = post(curl, url, photo);
  if (answer.status != 200) throw std::runtime_error(answer.body);
  auto found = tensors(answer);
  Reader& labels = found.at("detection_labels");
  Reader& scores = found.at("detection_scores");
  Reader& boxes = found.at("detection_boxes");
  std::vector<Detection> detections;
  for (int left = found.at("num_detections").next<int32_t>(); left > 0; --left) {
    Detection one;
    one.label = labels.text();
    for (float* corner : {&one.x1, &one.y1, &one.x2, &one.y2}) *corner = boxes.next<float>();
    one.score = scores.next<float>();
    detections.push_back(one);
  }
  return detections;
}

std::string read(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::string bytes{std::istreambuf_iterator<char>(file), {}};
  if (!file || bytes.empty()) throw std::runtime_error(path + ": no file that can be read");
  return bytes;
}

int main(int count, char** arguments) {
  if (count < 2) {
    std::cerr << "usage: detect PHOTO [URL]\n";
    return 2;
  }
  try {
    const std::string url = count > 2 ? arguments[2] : "http://127.0.0.1:8000";
    const std::unique_ptr<CURL, decltype(&curl_easy_cleanup)> curl(
        curl_easy_init(), curl_easy_cleanup);
    std::cout << std::setprecision(9);  // enough for each float
    for (const Detection& one : detect(curl.get(), url, read(arguments[1]))) {
      std::cout << "{\"label\":" << std::quoted(one.label) << ",\"score\":" << one.score
                << ",\"x1\":" << one.x1 << ",\"y1\":" << one.y1 << ",\"x2\":" << one.x2
                << ",\"y2\":" << one.y2 << "}\n";
    }
  } catch (const std::exception& error) {
    std::cerr << error.what() << '\n';
    return 1;
  }
}
