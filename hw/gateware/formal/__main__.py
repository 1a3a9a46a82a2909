"""Run the proofs and print the table: python -m gateware.formal [NAME ...]"""

import sys

from gateware.formal import TABLE, covers, prove


def main() -> int:
    """Exit code 0 where everything is proved, 3 where something is not."""
    wanted = set(sys.argv[1:])
    failed = 0
    for proof in TABLE:
        if wanted and proof.harness not in wanted:
            continue
        result = prove(proof)
        failed += not result.proved
        word = "proved" if result.proved else "FAILED"
        print(f"{proof.name:36} {word:7} {result.seconds:6.1f} s  {covers(proof)}: {proof.holds}", flush=True)
        if not result.proved:
            print(result.said)
    return 3 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
