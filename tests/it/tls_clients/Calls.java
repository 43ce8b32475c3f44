import java.io.ByteArrayInputStream;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpClient.Version;
import java.net.http.HttpRequest;
import java.net.http.HttpRequest.BodyPublishers;
import java.net.http.HttpResponse;
import java.net.http.HttpResponse.BodyHandlers;
import java.security.MessageDigest;
import java.time.Duration;
import java.util.ArrayList;
import java.util.HexFormat;
import java.util.List;
import java.util.stream.Collectors;

/** Java's HttpClient with HTTP/1.1 and HTTP/2: {@code java Calls.java}. Says what it showed, as calls.py does. */
class Calls {
    static String quoted(String text) {
        return "\"" + text.replace("\\", "\\\\").replace("\"", "\\\"").replace("\r", "\\r").replace("\n", "\\n") + "\"";
    }

    static String shown(HttpResponse<byte[]> answer) throws Exception {
        String headers = answer.headers().map().entrySet().stream().filter(entry -> !entry.getKey().equals("date"))
            .map(entry -> entry.getKey() + ": " + entry.getValue()).collect(Collectors.joining("\r\n"));
        byte[] digest = MessageDigest.getInstance("SHA-256").digest(answer.body());
        return answer.version() + " " + answer.statusCode() + "\r\n" + headers + "\r\n" + answer.body().length + " " + HexFormat.of().formatHex(digest);
    }

    static void play(String row, Version version, String base, String... routes) throws Exception {
        HttpClient client = HttpClient.newBuilder().version(version).build();
        List<HttpRequest.Builder> requests = new ArrayList<>();
        for (String route : routes) requests.add(HttpRequest.newBuilder(URI.create(base + "/" + route)));
        requests.add(HttpRequest.newBuilder(URI.create(base + "/plain")).POST(BodyPublishers.ofByteArray(new byte[300000])));
        requests.add(HttpRequest.newBuilder(URI.create(base + "/plain")).PUT(BodyPublishers.ofInputStream(() -> new ByteArrayInputStream(new byte[100000]))));
        List<String> saw = new ArrayList<>();
        for (HttpRequest.Builder request : requests) {
            try {
                saw.add(shown(client.send(request.header("x-row", row).timeout(Duration.ofSeconds(20)).build(), BodyHandlers.ofByteArray())));
            } catch (java.io.IOException error) {
                saw.add(error.getClass().getSimpleName() + " " + error.getMessage());
            }
        }
        System.out.println("{\"row\": " + quoted(row) + ", \"at\": \"client\", \"saw\": [" + saw.stream().map(Calls::quoted).collect(Collectors.joining(", ")) + "]}");
    }

    public static void main(String[] arguments) throws Exception {
        play("java h1", Version.HTTP_1_1, "https://http1.example", "plain?a=1", "stream", "large", "status/404", "status/503", "short-cut", "short-notify", "cut", "notify", "plain");
        play("java h2", Version.HTTP_2, "https://h2.example", "plain?a=1", "stream", "large", "status/404", "reset", "plain");
        System.exit(0);
    }
}
