# Name each step of a client's day and say how it went: step NAME COMMAND…
bad=0
step() {
    local name=$1 code; shift
    # Not within a condition: there the first command that fails would not end the step.
    set +e
    (set -e; "$@") >"step.log" 2>&1
    code=$?
    set -e
    if [ $code -eq 0 ]; then
        echo "ok s3 $CLIENT over $TRANSPORT: $name"
    else
        echo "not ok s3 $CLIENT over $TRANSPORT: $name"; tail -n 3 step.log | sed 's/^/    /'; bad=1
    fi
}
# same A B: two files or folders are alike.
same() { diff -r "$1" "$2"; }
# is FOUND WANTED
is() { [ "$1" = "$2" ] || { echo "expected $2, found $1"; return 1; }; }
