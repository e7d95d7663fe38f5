// The seven searches of the Clarifai guide's Rank page over REST, with nothing but fetch. The same file runs in Node.js
// (rank.mjs) and in a browser (rank.html).

export class Failure extends Error {}

// JSON knows what is absent: a concept without a value means 1, "has it".
const byConcept = (concept) => ({annotation: {data: {concepts: [concept]}}});
const byImage = (image) => ({annotation: {data: {image}}});
const byInput = (id) => ({annotation: {input_id: id}});

/**
 * Runs the searches and yields {title, hits} for each.
 *
 * @param server {base, pat, userId, appId} as `sightrank env` prints them
 * @param query what to search by, all optional: {inputId, imageUrl, imageBytes: Uint8Array, ownConcept}
 */
export async function* rank(server, query = {}) {
    const app = {user_id: server.userId, app_id: server.appId};
    const where = new URLSearchParams({"user_app_id.user_id": app.user_id, "user_app_id.app_id": app.app_id});
    const headers = {"Accept": "application/json", "Authorization": `Key ${server.pat}`};

    async function call(path, options = {}) {
        const answer = await (await fetch(`${server.base}/v2/${path}`, {headers, ...options})).json();
        if (answer.status.code !== 10000)
            throw new Failure(`${answer.status.code} ${answer.status.description}: ${answer.status.details ?? ""}`);
        return answer;
    }

    async function search(title, ranks) {
        const body = {user_app_id: app, searches: [{query: {ranks}}], pagination: {page: 1, per_page: 10}};
        const answer = await call("annotations/searches", {method: "POST", body: JSON.stringify(body)});
        return {title, hits: answer.hits};
    }

    /** Photos uploaded as bytes are hosted by the server, which wants the key; nobody else ever gets to see it. */
    async function download(url) {
        const response = await fetch(url, url.startsWith(`${server.base}/`) ? {headers} : {});
        if (!response.ok)
            throw new Failure(`GET ${url}: HTTP ${response.status}`);
        return new Uint8Array(await response.arrayBuffer());
    }

    yield await search("by a concept of clarifai/main: people", [byConcept({id: "people", value: 1})]);

    const own = query.ownConcept || (await call(`concepts?per_page=1&${where}`)).concepts[0]?.id;
    if (own)
        yield await search(`by a concept of your own: ${own}`, [byConcept({id: own, value: 1})]);

    const catNoDog = [byConcept({id: "cat", value: 1}), byConcept({id: "dog", value: 0})];
    yield await search("by both: cat, and no dog", catNoDog);

    const dogInJapanese = [byConcept({name: "犬", language: "ja", value: 1})];
    yield await search("by a concept in another language: 犬 (ja)", dogInJapanese);

    const id = query.inputId || (await call(`inputs?per_page=1&${where}`)).inputs[0]?.id;
    if (!id)
        throw new Failure("the app holds no inputs yet; add photos first");
    const {input} = await call(`inputs/${id}?${where}`);
    const url = query.imageUrl || input.data.image.url;
    yield await search(`by an image's URL: ${url}`, [byImage({url})]);

    const bytes = query.imageBytes || await download(url);
    yield await search("by an image's bytes", [byImage({base64: base64(bytes)})]);
    yield await search(`by an input's id: ${id}`, [byInput(id)]);
}

/** Browsers and Node.js share btoa, which takes a string of byte-sized characters. */
function base64(bytes) {
    const parts = [];
    for (let start = 0; start < bytes.length; start += 0x8000)
        parts.push(String.fromCharCode(...bytes.subarray(start, start + 0x8000)));
    return btoa(parts.join(""));
}
