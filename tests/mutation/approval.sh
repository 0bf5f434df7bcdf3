#!/usr/bin/env bash
# Whether every rule of the approval table is guarded by a test.
#
#   approval.sh          every rule
#   approval.sh A5...    only these
#
# In core/src/approval a rule, or a part of one, is a line that ends in `?; // A` and a number. One by
# one, each such line is taken out of a copy of the sources, and the tests must fail: not compiling
# does not count. What the types alone demand has no line to take out. The copy is in the target
# directory and shares what is built there; a minute on two cores.
set -euo pipefail
cd "$(dirname "$0")/../.."
root=$(pwd)
target=${CARGO_TARGET_DIR:-$root/target}
mkdir -p "$target"
target=$(cd "$target" && pwd)
readonly root target copy=$target/mutation
# A rule is to be guarded by an example, not by luck.
export CARGO_TARGET_DIR=$target PROPTEST_CASES=1 RUST_BACKTRACE=0
readonly rules=(A0 A1 A2 A3 A4 A5 A6 A7 A8 A9 A10 A11 A12)

die() {
  printf '%s\n' "$*" >&2
  exit 1
}

# Builds the tests of the copy and prints their program; fails if nothing had to be built.
build() {
  local messages
  messages=$(cd "$copy" && cargo test --locked -q -p certagent-core --lib --no-run --message-format=json) ||
    return 1
  grep -q '"fresh":false.*"executable":"\|"executable":".*"fresh":false' <<<"$messages" || {
    echo 'cargo saw no change' >&2
    return 1
  }
  grep -o '"executable":"[^"]*"' <<<"$messages" | cut -d '"' -f 4
}

# Exit code of the tests, as libtest gives it: 0 passed, 101 failed.
run() {
  (cd "$copy/core" && "$1" approval >"$copy/output" 2>&1) && echo 0 || echo $?
}

rm -rf "$copy"
mkdir "$copy"
# With the time of now, not with their own: what was built from the last mutant would look newer.
git ls-files -z --cached --others --exclude-standard | xargs -0 cp --no-dereference --parents -t "$copy"
# Another version, so that cargo never takes a mutant for the crate itself, which has the same place
# in its workspace.
readonly version=0.1.99999
sed -i "/^\[workspace.package\]/,/^\[/s/^version = .*/version = \"$version\"/" "$copy/Cargo.toml"
sed -i "/^name = \"certagent/{n;s/.*/version = \"$version\"/}" "$copy/Cargo.lock"

program=$(build) || die 'the sources do not compile as they are'
[ "$(run "$program")" = 0 ] || { cat "$copy/output"; die 'the tests fail as they are'; }
grep -q ' 0 passed' "$copy/output" && die 'there are no tests of the approval'

mapfile -t lines < <(cd "$copy" && find core/src/approval -name '*.rs' ! -name '*_tests.rs' ! -name testing.rs \
  -exec grep -nE '// A[0-9]+$' {} + | sort -t: -k1,1 -k2,2n)
survivors=0 taken=0
for rule in "${rules[@]}"; do
  [[ $# = 0 || " $* " == *" $rule "* ]] || continue
  found=0
  for line in "${lines[@]}"; do
    IFS=: read -r file number text <<<"$line"
    [[ $text == *"// $rule" ]] || continue
    [[ $text == *"?; // $rule" ]] || die "$file:$number cannot be taken out: the line is not a whole statement"
    found=$((found + 1)) taken=$((taken + 1))
    sed -i "${number}d" "$copy/$file"
    [ "$(diff "$root/$file" "$copy/$file" | grep -c '^[<>]')" = 1 ] || die "$file:$number was not taken out"
    program=$(build) || die "$file:$number: the sources do not compile without$text"
    code=$(run "$program")
    # A copy with the time of the original would look older than what was built from the mutant.
    cp "$root/$file" "$copy/$file"
    case $code in
      101) printf '%-4s %s:%s %s failed\n' "$rule" "$file" "$number" "$(grep -c '\.\.\. FAILED$' "$copy/output")" ;;
      0)
        printf '%-4s %s:%s SURVIVED: no test misses%s\n' "$rule" "$file" "$number" "$text"
        survivors=$((survivors + 1))
        ;;
      *) cat "$copy/output"; die "$file:$number: the tests ended with $code" ;;
    esac
  done
  [ "$found" -gt 0 ] || die "$rule has no line"
done
[ "$taken" -gt 0 ] || die "no such rule: $*"
rm -r "$copy"
[ "$survivors" = 0 ] || die "$survivors of $taken rules can be taken out unnoticed"
echo "each of $taken lines is guarded by a test ($SECONDS s)"
