// The guide's Rank searches with Node.js's own fetch: no package to install.
//
//   eval "$(sightrank env)"
//   node examples/fetch/rank.mjs
//
// INPUT_ID, IMAGE_URL, IMAGE_FILE and OWN_CONCEPT choose what to search by; what is not given comes from the server.

import {readFileSync} from "node:fs";

import {Failure, rank} from "./searches.mjs";

const {env} = process;
const server = {
    base: env.CLARIFAI_API_BASE || "http://127.0.0.1:8000",
    pat: env.CLARIFAI_PAT,
    userId: env.CLARIFAI_USER_ID,
    appId: env.CLARIFAI_APP_ID,
};
const query = {
    inputId: env.INPUT_ID,
    imageUrl: env.IMAGE_URL,
    imageBytes: env.IMAGE_FILE && readFileSync(env.IMAGE_FILE),
    ownConcept: env.OWN_CONCEPT,
};

try {
    for await (const {title, hits} of rank(server, query)) {
        console.log(title);
        console.log(`   #  score   ${"input".padEnd(32)}  annotation`);
        hits.forEach((hit, i) => {
            const number = String(i + 1).padStart(4);
            console.log(`${number}  ${hit.score.toFixed(4)}  ${hit.input.id.padEnd(32)}  ${hit.annotation.id}`);
        });
        console.log();
    }
} catch (error) {
    console.error(error instanceof Failure ? `failed: ${error.message}` : error);
    process.exitCode = 1;
}
