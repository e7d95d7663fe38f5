#!/usr/bin/env bash
# The seven searches of the Clarifai guide's Rank page with curl (and python3, to read the answers).
#
#   eval "$(sightrank env)"
#   examples/curl/rank.sh
#
# INPUT_ID, IMAGE_URL, IMAGE_FILE and OWN_CONCEPT choose what to search by; what is not given comes from the server.
# The app key opens one app, so no request has to say which; with CLARIFAI_PAT a body needs user_app_id.
set -euo pipefail

base=${CLARIFAI_API_BASE:-http://127.0.0.1:8000}
key=${CLARIFAI_API_KEY:?run: eval "\$(sightrank env)"}

# call METHOD PATH [curl options]: prints the answer, or ends the script with the status of a failed one.
call() {
    local method=$1 path=$2
    shift 2
    curl --silent --show-error --request "$method" \
        --header "Authorization: Key $key" --header "Content-Type: application/json" \
        "$@" "$base/v2/$path" | python3 -c '
import json, sys
answer = json.load(sys.stdin)
status = answer["status"]
if status["code"] != 10000:
    sys.exit("failed: {} {}: {}".format(status["code"], status["description"], status.get("details", "")))
json.dump(answer, sys.stdout)'
}

# field EXPRESSION: one value of the answer on stdin, or nothing.
field() {
    python3 -c '
import json, sys
value = json.load(sys.stdin)
try:
    for step in sys.argv[1].split("."):
        value = value[int(step) if step.isdigit() else step]
except (KeyError, IndexError):
    sys.exit()
print(value)' "$1"
}

table() {
    python3 -c '
import json, sys
print("{:>4}  {:<6}  {:<32}  annotation".format("#", "score", "input"))
for number, hit in enumerate(json.load(sys.stdin)["hits"], start=1):
    print("{:>4}  {:.4f}  {:<32}  {}".format(number, hit["score"], hit["input"]["id"], hit["annotation"]["id"]))
print()'
}

# search TITLE: the ranks come on stdin. They go to curl as a stream: a photo is too long for a command line argument.
search() {
    local answer
    answer=$({
        printf '{"searches": [{"query": {"ranks": ['
        cat
        printf ']}}], "pagination": {"page": 1, "per_page": 10}}'
    } | call POST annotations/searches --data-binary @-)
    echo "$1"
    table <<< "$answer"
}

# Leave "value" out and it means 1, "has it"; 0 means "does not have it".
search "by a concept of clarifai/main: people" <<'JSON'
{"annotation": {"data": {"concepts": [{"id": "people", "value": 1}]}}}
JSON

own=${OWN_CONCEPT:-$(call GET 'concepts?per_page=1' | field concepts.0.id)}
if [[ -n $own ]]; then
    search "by a concept of your own: $own" <<JSON
{"annotation": {"data": {"concepts": [{"id": "$own", "value": 1}]}}}
JSON
fi

search "by both: cat, and no dog" <<'JSON'
{"annotation": {"data": {"concepts": [{"id": "cat", "value": 1}]}}},
{"annotation": {"data": {"concepts": [{"id": "dog", "value": 0}]}}}
JSON

search "by a concept in another language: 犬 (ja)" <<'JSON'
{"annotation": {"data": {"concepts": [{"name": "犬", "language": "ja", "value": 1}]}}}
JSON

input_id=${INPUT_ID:-$(call GET 'inputs?per_page=1' | field inputs.0.id)}
if [[ -z $input_id ]]; then
    echo "failed: the app holds no inputs yet; add photos first" >&2
    exit 1
fi
image_url=${IMAGE_URL:-$(call GET "inputs/$input_id" | field input.data.image.url)}
search "by an image's URL: $image_url" <<JSON
{"annotation": {"data": {"image": {"url": "$image_url"}}}}
JSON

# Photos uploaded as bytes are hosted by the server, which wants the key; nobody else ever gets to see it.
photo() {
    if [[ -n ${IMAGE_FILE:-} ]]; then
        cat -- "$IMAGE_FILE"
    elif [[ $image_url == "$base"/* ]]; then
        curl --silent --show-error --fail --header "Authorization: Key $key" "$image_url"
    else
        curl --silent --show-error --fail "$image_url"
    fi
}
search "by an image's bytes" < <(
    printf '{"annotation": {"data": {"image": {"base64": "'
    photo | base64 | tr -d '\n'
    printf '"}}}}'
)

search "by an input's id: $input_id" <<JSON
{"annotation": {"input_id": "$input_id"}}
JSON
