// The seven searches of the Clarifai guide's Rank page, through the official Node.js gRPC client.
//
//   cd examples/nodejs && npm install
//   eval "$(sightrank env)"
//   node rank.js
//
// ClarifaiStub.grpc() speaks TLS and nothing else. With a CA file in CLARIFAI_ROOT_CERTIFICATES_PATH and the TLS port
// in CLARIFAI_GRPC_BASE (localhost:8443) this program uses it unchanged; otherwise it connects without TLS (connect).
// INPUT_ID, IMAGE_URL, IMAGE_FILE and OWN_CONCEPT choose what to search by; what is not given comes from the server.

const fs = require("node:fs");
const {env} = process;

// The client takes its CA file from this variable only, and reads it while it is being loaded.
if (env.CLARIFAI_ROOT_CERTIFICATES_PATH)
    env.GRPC_DEFAULT_SSL_ROOTS_FILE_PATH = env.CLARIFAI_ROOT_CERTIFICATES_PATH;
const {ClarifaiStub, grpc} = require("clarifai-nodejs-grpc");

const API_BASE = env.CLARIFAI_API_BASE || "http://127.0.0.1:8000";

// An app key opens one app, so no request has to say which (a personal access token would need user_app_id).
const metadata = new grpc.Metadata();
metadata.set("authorization", `Key ${env.CLARIFAI_API_KEY}`);

class Failure extends Error {}

function connect() {
    if (env.CLARIFAI_ROOT_CERTIFICATES_PATH)
        return ClarifaiStub.grpc();
    // The client's own plaintext stub has Clarifai's address built in. Its class is all we need of it.
    const elsewhere = ClarifaiStub.insecureGrpc();
    elsewhere.close();
    const [host, port = "18080"] = (env.CLARIFAI_GRPC_BASE || "127.0.0.1").split(":");
    const options = {"grpc.max_receive_message_length": -1, "grpc.max_send_message_length": -1};
    return new elsewhere.constructor(`${host}:${port}`, grpc.credentials.createInsecure(), options);
}

const stub = connect();

/** Calls one rpc. Errors of the API travel inside the answer, with the gRPC call itself succeeding. */
function call(rpc, request) {
    return new Promise((resolve, reject) => {
        stub[rpc](request, metadata, (error, answer) => {
            if (error)
                reject(new Failure(error.message));
            else if (answer.status.code !== 10000)
                reject(new Failure(`${answer.status.code} ${answer.status.description}: ${answer.status.details}`));
            else
                resolve(answer);
        });
    });
}

// An absent value arrives as 0 ("does not have it"), so say value: 1 whenever you mean "has it".
const byConcept = (concept) => ({annotation: {data: {concepts: [concept]}}});
const byImage = (image) => ({annotation: {data: {image}}});
const byInput = (id) => ({annotation: {input_id: id}});

async function* searches() {
    yield ["by a concept of clarifai/main: people", [byConcept({id: "people", value: 1})]];

    const own = env.OWN_CONCEPT || (await call("ListConcepts", {per_page: 1})).concepts[0]?.id;
    if (own)
        yield [`by a concept of your own: ${own}`, [byConcept({id: own, value: 1})]];

    yield ["by both: cat, and no dog", [byConcept({id: "cat", value: 1}), byConcept({id: "dog", value: 0})]];
    yield ["by a concept in another language: 犬 (ja)", [byConcept({name: "犬", language: "ja", value: 1})]];

    const id = env.INPUT_ID || (await newestInput()).id;
    const url = env.IMAGE_URL || (await call("GetInput", {input_id: id})).input.data.image.url;
    yield [`by an image's URL: ${url}`, [byImage({url})]];

    const bytes = env.IMAGE_FILE ? fs.readFileSync(env.IMAGE_FILE) : await download(url);
    yield ["by an image's bytes", [byImage({base64: bytes})]];
    yield [`by an input's id: ${id}`, [byInput(id)]];
}

async function newestInput() {
    const [input] = (await call("ListInputs", {per_page: 1})).inputs;
    if (!input)
        throw new Failure("the app holds no inputs yet; add photos first");
    return input;
}

/** Photos uploaded as bytes are hosted by the server, which wants the key; nobody else ever gets to see it. */
async function download(url) {
    const headers = url.startsWith(`${API_BASE}/`) ? {Authorization: `Key ${env.CLARIFAI_API_KEY}`} : {};
    const response = await fetch(url, {headers});
    if (!response.ok)
        throw new Failure(`GET ${url}: HTTP ${response.status}`);
    return Buffer.from(await response.arrayBuffer());
}

async function main() {
    for await (const [title, ranks] of searches()) {
        const answer = await call("PostAnnotationsSearches", {
            searches: [{query: {ranks}}],
            pagination: {page: 1, per_page: 10},
        });
        console.log(title);
        console.log(`   #  score   ${"input".padEnd(32)}  annotation`);
        answer.hits.forEach((hit, i) => {
            const number = String(i + 1).padStart(4);
            console.log(`${number}  ${hit.score.toFixed(4)}  ${hit.input.id.padEnd(32)}  ${hit.annotation.id}`);
        });
        console.log();
    }
}

main()
    .catch((error) => {
        console.error(error instanceof Failure ? `failed: ${error.message}` : error);
        process.exitCode = 1;
    })
    .finally(() => stub.close());
