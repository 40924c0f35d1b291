import sys

from figures.gallery import main

sys.exit(main())
