# Name each step of a client's day and say how it went: step NAME COMMAND…
bad=0
step() {
    local name=$1; shift
    # Each command is judged by its own end, not by the last line of its output.
    if (set -e; "$@") >"step.log" 2>&1; then
        echo "ok s3 $CLIENT over $TRANSPORT: $name"
    else
        echo "not ok s3 $CLIENT over $TRANSPORT: $name"; tail -n 3 step.log | sed 's/^/    /'; bad=1
    fi
}
# same A B: two files or folders are alike.
same() { diff -r "$1" "$2"; }
# is FOUND WANTED
is() { [ "$1" = "$2" ] || { echo "expected $2, found $1"; return 1; }; }
