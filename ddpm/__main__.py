from ddpm.cli import main

main()
