import java.io.ByteArrayInputStream;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpRequest.BodyPublishers;
import java.net.http.HttpResponse;
import java.net.http.HttpResponse.BodyHandlers;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.KeyStore;
import java.security.MessageDigest;
import java.security.cert.CertificateFactory;
import java.time.Duration;
import java.util.ArrayList;
import java.util.HexFormat;
import java.util.List;
import java.util.concurrent.CompletableFuture;
import java.util.stream.Collectors;
import java.util.stream.IntStream;
import javax.net.ssl.SSLContext;
import javax.net.ssl.TrustManagerFactory;

/**
 * Java's HttpClient: {@code java Client.java HTTP H2C TLS CERTIFICATE}, the addresses of web.mjs, h2c.py and tls_origin.mjs.
 * talk.py tells of reports.
 */
class Client {
    static String http, h2c, tls;
    static SSLContext trusting;

    interface Play {
        void play(Talk talk) throws Exception;
    }

    record Talk(String row, HttpClient client, List<String> saw) {
        HttpRequest.Builder request(String base, String route) {
            String query = row.replace(" ", "%20");
            return HttpRequest.newBuilder(URI.create(base + "/" + route + "?row=" + query)).timeout(Duration.ofSeconds(10));
        }

        void send(HttpRequest.Builder request) throws Exception {
            try {
                saw.add(shown(client.send(request.build(), BodyHandlers.ofByteArray())));
            } catch (java.io.IOException error) {
                saw.add(error.getClass().getSimpleName() + " " + error.getMessage());
            }
        }
    }

    static String shown(HttpResponse<byte[]> answer) throws Exception {
        String headers = answer.headers().map().entrySet().stream().filter(entry -> !entry.getKey().equals("date"))
            .map(entry -> entry.getKey() + ": " + entry.getValue()).collect(Collectors.joining("\r\n"));
        byte[] digest = MessageDigest.getInstance("SHA-256").digest(answer.body());
        return answer.version() + " " + answer.statusCode() + "\r\n" + headers + "\r\n" + answer.body().length + " " + HexFormat.of().formatHex(digest);
    }

    static void play(String row, HttpClient.Version version, Play play) throws Exception {
        HttpClient.Builder builder = HttpClient.newBuilder().connectTimeout(Duration.ofSeconds(10));
        if (version != null) builder.version(version);
        if (trusting != null) builder.sslContext(trusting);
        Talk talk = new Talk(row, builder.build(), new ArrayList<>());
        play.play(talk);
        String saw = talk.saw.stream().map(Client::quoted).collect(Collectors.joining(", "));
        System.out.println("{\"row\": " + quoted(row) + ", \"at\": \"client\", \"saw\": [" + saw + "]}");
    }

    static String quoted(String text) {
        return "\"" + text.replace("\\", "\\\\").replace("\"", "\\\"").replace("\r", "\\r").replace("\n", "\\n") + "\"";
    }

    static void calls(Talk talk) throws Exception {
        talk.send(talk.request(http, "plain"));
        talk.send(talk.request(http, "echo").POST(BodyPublishers.ofString("a body")));
        talk.send(talk.request(http, "echo").PUT(BodyPublishers.ofInputStream(() -> new ByteArrayInputStream(new byte[100000]))));
        talk.send(talk.request(http, "stream"));
        talk.send(talk.request(http, "plain").method("HEAD", BodyPublishers.noBody()));
        talk.send(talk.request(http, "empty"));
        talk.send(talk.request(http, "missing"));
        talk.send(talk.request(http, "large"));
        talk.send(talk.request(http, "trailers"));
    }

    public static void main(String[] arguments) throws Exception {
        http = arguments[0];
        h2c = arguments[1];
        tls = arguments[2];
        HttpClient.Version one = HttpClient.Version.HTTP_1_1;
        play("Java: HTTP/1.1", one, Client::calls);
        play("Java: Upgrade: h2c, which Node ignores", null, Client::calls);
        play("Java: Upgrade: h2c, which is accepted", null, talk -> {
            talk.send(talk.request(h2c, "first"));
            talk.send(talk.request(h2c, "second"));
            talk.send(talk.request(h2c, "third").POST(BodyPublishers.ofByteArray(new byte[100000])));
        });
        play("Java: expects 100-continue", one, talk -> talk.send(talk.request(http, "echo").expectContinue(true).POST(BodyPublishers.ofString("a body"))));
        play("Java: an answer that is cut", one, talk -> talk.send(talk.request(http, "cut")));
        play("Java: an answer that is reset", one, talk -> talk.send(talk.request(http, "reset").POST(BodyPublishers.ofString("once"))));
        play("Java: a connection that the server closes", one, talk -> {
            talk.send(talk.request(http, "close"));
            talk.send(talk.request(http, "plain"));
        });
        play("Java: a timeout", one, talk -> {
            talk.send(talk.request(http, "never").timeout(Duration.ofMillis(400)));
            talk.send(talk.request(http, "gone"));
        });
        play("Java: fifty calls at once", one, talk -> {
            List<CompletableFuture<HttpResponse<byte[]>>> calls = IntStream.range(0, 50)
                .mapToObj(index -> talk.client().sendAsync(talk.request(http, "plain").build(), BodyHandlers.ofByteArray())).toList();
            for (var call : calls) talk.saw().add(shown(call.get()));
        });
        KeyStore store = KeyStore.getInstance(KeyStore.getDefaultType());
        store.load(null);
        try (var certificate = Files.newInputStream(Path.of(arguments[3]))) {
            store.setCertificateEntry("test", CertificateFactory.getInstance("X.509").generateCertificate(certificate));
        }
        TrustManagerFactory trust = TrustManagerFactory.getInstance(TrustManagerFactory.getDefaultAlgorithm());
        trust.init(store);
        trusting = SSLContext.getInstance("TLS");
        trusting.init(null, trust.getTrustManagers(), null);
        for (HttpClient.Version version : new HttpClient.Version[] {one, HttpClient.Version.HTTP_2}) {
            play("Java: TLS with " + version, version, talk -> {
                talk.send(talk.request(tls, "plain"));
                talk.send(talk.request(tls, "echo").POST(BodyPublishers.ofByteArray(new byte[1 << 20])));
                talk.send(talk.request(tls, "large"));
            });
        }
        System.exit(0);
    }
}
