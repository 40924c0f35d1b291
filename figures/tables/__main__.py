import sys

from figures.tables import main

sys.exit(main())
