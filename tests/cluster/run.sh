#!/usr/bin/env bash
# A real node: what a kubelet, a container runtime and pods make of the driver.
#
#   run.sh                 all scenarios of scenarios.sh, in their order, up to the first that fails
#   run.sh SCENARIO...     only these; most need those before them
#   run.sh --list          their names
#
# It needs root. CERTAGENT is the program (else it is built), CERTAGENT_IMAGE the archive of the
# image (else deploy/image.sh builds it). Logs are kept where the last lines say: after a failure, and
# with KEEP_LOGS=1 always.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
readonly here
readonly all=(
  the_lab_mounts_a_volume_of_a_do_nothing_driver
  without_a_config_the_pod_waits_and_heals_by_apply_alone
  a_pod_of_gke_reads_all_files_as_a_user_without_rights
  the_node_has_the_volume_nosuid_nodev_noexec
  inspect_node_says_that_the_driver_works_and_why_it_does_not
  with_fs_group_the_files_are_that_groups_alone
  a_certificate_of_60_s_rotates_twice_before_the_pods_eyes
  a_pod_deleted_while_its_certificate_is_issued_leaves_nothing
  a_driver_that_is_killed_while_it_issues_buys_one_certificate
  a_driver_that_is_killed_comes_back_and_asks_for_nothing
  a_kubelet_that_is_restarted_changes_nothing
  fifty_pods_at_once_get_fifty_certificates
  in_reflected_mode_a_pod_gets_its_own_identity
  it_is_renewed_with_the_token_that_the_kubelet_brings_again
  the_driver_as_a_daemonset_is_rolled_out_anew_while_a_pod_runs
  by_way_of_the_controller_a_pod_gets_its_certificate
  what_driver_and_controller_may_do_is_what_stands_here
  through_the_controller_it_rotates_twice_at_60_s
  a_bad_object_says_what_is_wrong_and_the_good_one_stays_in_force
  an_annotation_renews_everything_ahead_of_its_time
  each_rule_of_the_objects_is_said_where_people_look
  each_rule_of_the_table_is_a_denial_of_its_own
  a_pod_that_asks_too_often_waits_and_gets_it_later
  a_pod_with_the_longest_name_gets_its_certificate
  a_certificate_of_somebody_else_is_refused_by_the_node
  while_the_ca_is_away_the_request_waits_and_heals
  while_the_api_server_is_away_requests_wait_and_heal
  the_objects_of_another_installation_are_left_alone
  the_controller_is_killed_while_it_signs_and_the_other_takes_over
  fifty_pods_at_once_come_through_the_controller
  after_the_controller_nothing_is_left
  after_the_last_pod_nothing_is_left
)

if [ "${1:-}" = --list ]; then
  printf '%s\n' "${all[@]}"
  exit
fi
scenarios=("$@")
[ ${#scenarios[@]} -gt 0 ] || scenarios=("${all[@]}")
for scenario in "${scenarios[@]}"; do
  if [[ " ${all[*]} " != *" $scenario "* ]]; then
    echo "$scenario is no scenario; run.sh --list prints them" >&2
    exit 2
  fi
done
# shellcheck source=tests/cluster/setup.sh
. "$here/setup.sh"
# shellcheck source=tests/cluster/scenarios.sh
. "$here/scenarios.sh"
# shellcheck source=tests/cluster/controller.sh
. "$here/controller.sh"
# shellcheck source=tests/cluster/table.sh
. "$here/table.sh"
# shellcheck source=tests/cluster/objects.sh
. "$here/objects.sh"
image=${CERTAGENT_IMAGE:-}
if [[ -z $image && (" ${scenarios[*]} " == *_daemonset_* || " ${scenarios[*]} " == *_controller_*) ]]; then
  image=$work/image.tar
  bash "$root/deploy/image.sh" "$image"
fi
[ -z "$image" ] || image=$(realpath "$image")
readonly image
start_lab
passed=0 failed=0
for scenario in "${scenarios[@]}"; do
  begin=$SECONDS
  # In a subshell of its own, and not as a condition: only so does the first error end it.
  set +e
  (set -e; "$scenario") >"$work/output" 2>&1
  result=$?
  set -e
  if [ "$result" = 0 ]; then
    passed=$((passed + 1))
    echo "ok $scenario ($((SECONDS - begin)) s)"
    sed -n 's/^figure: /   /p' "$work/output"
  else
    failed=$((failed + 1))
    echo "FAILED $scenario"
    cat "$work/output"
    diagnose
    break
  fi
done
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
