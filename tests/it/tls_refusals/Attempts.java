import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse.BodyHandlers;
import javax.net.ssl.SSLHandshakeException;

/** Java's HttpClient with a store of its own: {@code java Attempts.java URL}, three times. Says what came of each. */
class Attempts {
    public static void main(String[] arguments) throws Exception {
        for (int attempt = 1; attempt <= 3; attempt++) {
            HttpRequest request = HttpRequest.newBuilder(URI.create(arguments[0])).header("x-row", "java " + attempt).build();
            try {
                System.out.println(HttpClient.newHttpClient().send(request, BodyHandlers.ofString()).statusCode());
            } catch (SSLHandshakeException error) {
                System.out.println("refused");
            }
        }
        System.exit(0);
    }
}
