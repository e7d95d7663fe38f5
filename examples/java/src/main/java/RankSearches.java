import com.clarifai.channel.ClarifaiChannel;
import com.clarifai.credentials.ClarifaiCallCredentials;
import com.clarifai.grpc.api.*;
import com.clarifai.grpc.api.status.Status;
import com.clarifai.grpc.api.status.StatusCode;
import com.google.protobuf.ByteString;
import io.grpc.ManagedChannel;
import io.grpc.netty.shaded.io.grpc.netty.GrpcSslContexts;
import io.grpc.netty.shaded.io.grpc.netty.NettyChannelBuilder;
import java.io.File;
import java.io.PrintStream;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Locale;
import java.util.concurrent.TimeUnit;

/**
 * The seven searches of the Clarifai guide's Rank page, through the official Java client.
 *
 * <pre>
 *   eval "$(sightrank env)"
 *   mvn -q -f examples/java compile exec:java
 * </pre>
 *
 * INPUT_ID, IMAGE_URL, IMAGE_FILE and OWN_CONCEPT choose what to search by; what is not given comes from the server.
 */
public class RankSearches {

    private static final int DEFAULT_GRPC_PORT = 18080;
    private static final int LARGEST_ANSWER = ClarifaiChannel.MAX_MESSAGE_LENGTH;

    /** An answer whose status is not SUCCESS. */
    static class Failure extends Exception {
        Failure(String message) {
            super(message);
        }
    }

    private final V2Grpc.V2BlockingStub stub;
    private final PrintStream out = new PrintStream(System.out, true, StandardCharsets.UTF_8);

    RankSearches(ManagedChannel channel) {
        // Takes CLARIFAI_API_KEY from the environment. An app key opens one app, so no request has to say which.
        stub = V2Grpc.newBlockingStub(channel).withCallCredentials(new ClarifaiCallCredentials());
    }

    public static void main(String[] arguments) throws Exception {
        ManagedChannel channel = connect();
        try {
            new RankSearches(channel).run();
        } catch (Failure failure) {
            System.err.println("failed: " + failure.getMessage());
            System.exit(1);
        } finally {
            channel.shutdownNow().awaitTermination(5, TimeUnit.SECONDS);
        }
    }

    /**
     * The client's own getGrpcChannel() always means TLS on port 443, and takes a host without a port. So this program
     * uses it when CLARIFAI_GRPC_BASE says :443, and otherwise builds the same channel for the port it is told: with
     * TLS when CLARIFAI_ROOT_CERTIFICATES_PATH names a CA file, else without.
     */
    static ManagedChannel connect() throws Exception {
        String[] base = setting("CLARIFAI_GRPC_BASE", "127.0.0.1").split(":");
        int port = base.length > 1 ? Integer.parseInt(base[1]) : DEFAULT_GRPC_PORT;
        if (port == 443) {
            return ClarifaiChannel.INSTANCE.getGrpcChannel(base[0]);
        }
        NettyChannelBuilder builder = NettyChannelBuilder.forAddress(base[0], port);
        builder.maxInboundMessageSize(LARGEST_ANSWER);
        String roots = setting("CLARIFAI_ROOT_CERTIFICATES_PATH", "");
        if (roots.isEmpty()) {
            return builder.usePlaintext().build();
        }
        return builder.sslContext(GrpcSslContexts.forClient().trustManager(new File(roots)).build()).build();
    }

    void run() throws Exception {
        search("by a concept of clarifai/main: people", concept("people", 1));

        String own = setting("OWN_CONCEPT", "");
        if (own.isEmpty()) {
            own = firstOwnConcept();
        }
        if (!own.isEmpty()) {
            search("by a concept of your own: " + own, concept(own, 1));
        }

        search("by both: cat, and no dog", concept("cat", 1), concept("dog", 0));

        Concept.Builder dog = Concept.newBuilder().setName("犬").setLanguage("ja").setValue(1);
        search("by a concept in another language: 犬 (ja)", rank(Data.newBuilder().addConcepts(dog)));

        String inputId = setting("INPUT_ID", "");
        if (inputId.isEmpty()) {
            inputId = newestInput();
        }
        String url = setting("IMAGE_URL", "");
        if (url.isEmpty()) {
            SingleInputResponse answer = stub.getInput(GetInputRequest.newBuilder().setInputId(inputId).build());
            mustSucceed(answer.getStatus());
            url = answer.getInput().getData().getImage().getUrl();
        }
        search("by an image's URL: " + url, rank(Data.newBuilder().setImage(Image.newBuilder().setUrl(url))));

        String file = setting("IMAGE_FILE", "");
        byte[] bytes = file.isEmpty() ? download(url) : Files.readAllBytes(Path.of(file));
        Image.Builder image = Image.newBuilder().setBase64(ByteString.copyFrom(bytes));
        search("by an image's bytes", rank(Data.newBuilder().setImage(image)));

        Annotation.Builder annotation = Annotation.newBuilder().setInputId(inputId);
        search("by an input's id: " + inputId, Rank.newBuilder().setAnnotation(annotation).build());
    }

    private void search(String title, Rank... ranks) throws Failure {
        Query.Builder query = Query.newBuilder();
        for (Rank rank : ranks) {
            query.addRanks(rank);
        }
        PostAnnotationsSearchesRequest request = PostAnnotationsSearchesRequest.newBuilder()
            .addSearches(Search.newBuilder().setQuery(query))
            .setPagination(Pagination.newBuilder().setPage(1).setPerPage(10))
            .build();
        MultiSearchResponse answer = stub.postAnnotationsSearches(request);
        mustSucceed(answer.getStatus());

        out.println(title);
        out.printf("%4s  %-6s  %-32s  annotation%n", "#", "score", "input");
        int number = 0;
        for (Hit hit : answer.getHitsList()) {
            number++;
            String inputId = hit.getInput().getId();
            String annotationId = hit.getAnnotation().getId();
            out.printf(Locale.ROOT, "%4d  %.4f  %-32s  %s%n", number, hit.getScore(), inputId, annotationId);
        }
        out.println();
    }

    /** Errors travel inside the answer; the gRPC call itself succeeds. */
    private static void mustSucceed(Status status) throws Failure {
        if (status.getCode() != StatusCode.SUCCESS) {
            throw new Failure(status.getCodeValue() + " " + status.getDescription() + ": " + status.getDetails());
        }
    }

    /** An absent value arrives as 0 ("does not have it"), so a value of 1 has to be said. */
    private static Rank concept(String id, float value) {
        return rank(Data.newBuilder().addConcepts(Concept.newBuilder().setId(id).setValue(value)));
    }

    private static Rank rank(Data.Builder data) {
        return Rank.newBuilder().setAnnotation(Annotation.newBuilder().setData(data)).build();
    }

    private String firstOwnConcept() throws Failure {
        MultiConceptResponse answer = stub.listConcepts(ListConceptsRequest.newBuilder().setPerPage(1).build());
        mustSucceed(answer.getStatus());
        return answer.getConceptsCount() == 0 ? "" : answer.getConcepts(0).getId();
    }

    private String newestInput() throws Failure {
        MultiInputResponse answer = stub.listInputs(ListInputsRequest.newBuilder().setPerPage(1).build());
        mustSucceed(answer.getStatus());
        if (answer.getInputsCount() == 0) {
            throw new Failure("the app holds no inputs yet; add photos first");
        }
        return answer.getInputs(0).getId();
    }

    /** Photos uploaded as bytes are hosted by the server, which wants the key; nobody else ever gets to see it. */
    private static byte[] download(String url) throws Exception {
        HttpRequest.Builder request = HttpRequest.newBuilder(URI.create(url));
        if (url.startsWith(setting("CLARIFAI_API_BASE", "http://127.0.0.1:8000") + "/")) {
            request.header("Authorization", "Key " + System.getenv("CLARIFAI_API_KEY"));
        }
        HttpResponse<byte[]> answer = HttpClient.newHttpClient()
            .send(request.build(), HttpResponse.BodyHandlers.ofByteArray());
        if (answer.statusCode() != 200) {
            throw new Failure("GET " + url + ": HTTP " + answer.statusCode());
        }
        return answer.body();
    }

    private static String setting(String name, String otherwise) {
        String value = System.getenv(name);
        return value == null || value.isEmpty() ? otherwise : value;
    }
}
