#!/usr/bin/env bash
# Saves a search as of now, executes it by its id, changes it, lists what is saved and deletes it, with curl.
#
#   eval "$(sightrank env)"
#   examples/curl/saved_search.sh CONCEPT
#
# CONCEPT (or OWN_CONCEPT) is one that photos of yours are labelled with. python3 reads the answers.
set -euo pipefail

base=${CLARIFAI_API_BASE:-http://127.0.0.1:8000}
key=${CLARIFAI_API_KEY:?run: eval "\$(sightrank env)"}
concept=${1:-${OWN_CONCEPT:?name a concept of your own}}
id=example-$$-$(date +%s)

# call METHOD PATH [BODY]: prints the answer, or ends the script with the status of a failed one.
call() {
    curl --silent --show-error --request "$1" --header "Authorization: Key $key" --data "${3:-{\}}" "$base/v2/$2" |
        python3 -c '
import json, sys
answer = json.load(sys.stdin)
status = answer["status"]
if status["code"] != 10000:
    sys.exit("failed: {} {}: {}".format(status["code"], status["description"], status.get("details", "")))
json.dump(answer, sys.stdout)'
}

table() {
    python3 -c '
import json, sys
print("{:>4}  {:<6}  {:<32}  annotation".format("#", "score", "input"))
for number, hit in enumerate(json.load(sys.stdin)["hits"], start=1):
    print("{:>4}  {:.4f}  {:<32}  {}".format(number, hit["score"], hit["input"]["id"], hit["annotation"]["id"]))
print()'
}

# Without "save" the same body would be executed at once. "as_of" keeps later labels out; whole seconds, as `date` prints
# them, would keep those of this second out too.
now=$(python3 -c 'import datetime; print(datetime.datetime.now(datetime.timezone.utc).isoformat())')
call POST inputs/searches "{\"searches\": [{\"id\": \"$id\", \"save\": true, \"as_of\": \"$now\",
    \"query\": {\"filters\": [{\"annotation\": {\"data\": {\"concepts\": [{\"id\": \"$concept\"}]}}}]}}]}" > /dev/null

echo "by the saved search: $id"
call POST "searches/$id" '{"pagination": {"page": 1, "per_page": 10}}' | table

call PATCH inputs/searches "{\"action\": \"overwrite\", \"searches\": [{\"id\": \"$id\",
    \"query\": {\"filters\": [{\"annotation\": {\"data\": {\"concepts\": [{\"id\": \"$concept\"}]}}}],
    \"ranks\": [{\"annotation\": {\"data\": {\"concepts\": [{\"id\": \"people\"}]}}}]}}]}" > /dev/null

echo "by the same, people first: $id"
call POST "searches/$id" '{"pagination": {"page": 1, "per_page": 10}}' | table

echo "saved searches:"
curl --silent --show-error --header "Authorization: Key $key" "$base/v2/searches?per_page=5" |
    python3 -c 'import json, sys; [print("     ", one["id"]) for one in json.load(sys.stdin)["searches"]]'

call DELETE "searches/$id" > /dev/null
